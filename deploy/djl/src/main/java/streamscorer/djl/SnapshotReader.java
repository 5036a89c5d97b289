package streamscorer.djl;

import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.BINARY;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.FLOAT;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.INT32;
import static org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName.INT64;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.apache.parquet.ParquetReadOptions;
import org.apache.parquet.column.ColumnDescriptor;
import org.apache.parquet.column.ColumnReader;
import org.apache.parquet.column.impl.ColumnReadStoreImpl;
import org.apache.parquet.column.page.PageReadStore;
import org.apache.parquet.conf.PlainParquetConfiguration;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.io.LocalInputFile;
import org.apache.parquet.io.api.Converter;
import org.apache.parquet.io.api.GroupConverter;
import org.apache.parquet.io.api.PrimitiveConverter;
import org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.parquet.schema.LogicalTypeAnnotation.IntLogicalTypeAnnotation;
import org.apache.parquet.schema.LogicalTypeAnnotation.StringLogicalTypeAnnotation;
import org.apache.parquet.schema.LogicalTypeAnnotation.TimeUnit;
import org.apache.parquet.schema.LogicalTypeAnnotation.TimestampLogicalTypeAnnotation;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName;
import org.apache.parquet.schema.Type;

/**
 * Reads a snapshot in a local directory, a batch at a time. Memory holds one row group (8,192 customers
 * in our own files) and one batch. Columns are read as columns, so that no number is boxed.
 */
public final class SnapshotReader implements AutoCloseable {
    static final List<String> COLUMNS = List.of("customer_id", "as_of", "columns", "values");

    /** What they have to be, in the words of the Python package. */
    static final List<String> KINDS = List.of(
            "text", "a timestamp with a time zone, in milliseconds or microseconds",
            "lists of whole numbers of at most 64 bits", "lists of numbers of 32 bits");


    static final String UNREADABLE = "is not readable as Parquet";

    private final Snapshot snapshot;
    private final VectorBuilder builder;
    private final Iterator<Snapshot.Shard> shards;
    private Snapshot.Shard shard;
    private long rowsOfShard;
    private Path file;
    private ParquetFileReader parquet;
    private MessageType schema;
    private Group group;

    /**
     * @param snapshot what was opened with {@link #open}
     * @param batchRows customers in a batch; the last may have fewer
     */
    public SnapshotReader(Snapshot snapshot, int batchRows) {
        this.snapshot = snapshot;
        this.builder = new VectorBuilder(snapshot.columns(), batchRows);
        this.shards = snapshot.shards().iterator();
    }

    /**
     * Reads the manifest, and checks every byte of every shard against it.
     *
     * @throws BadInput where something is missing, altered or of a newer format
     */
    public static Snapshot open(Path directory) {
        boolean old = !Files.exists(directory.resolve(Snapshot.MANIFEST));
        String name = old ? Snapshot.OLD_MANIFEST : Snapshot.MANIFEST;
        Path file = directory.resolve(name);
        byte[] content;
        try {
            InputFile.require(Snapshot.KIND, file, Manifest.MAX_BYTES);
            content = Files.readAllBytes(file);
        } catch (NoSuchFileException error) {
            throw Snapshot.withoutManifest(directory.toString());
        } catch (IOException error) {
            throw new BadInput(Snapshot.KIND, file, "can't be read: " + InputFile.reason(error));
        }
        Snapshot snapshot = Snapshot.parse(directory.toString(), name, content);
        snapshot.shards().forEach(shard -> check(directory, shard));
        if (snapshot.trend() != null) {
            check(directory, snapshot.trend().file());
        }
        return snapshot;
    }

    private static void check(Path directory, Snapshot.Shard shard) {
        Path path = directory.resolve(shard.name());
        try {
            InputFile.require(Snapshot.KIND, path, Long.MAX_VALUE);
            try (InputStream stream = Files.newInputStream(path)) {
                shard.check(path.toString(), stream);
            }
        } catch (NoSuchFileException error) {
            throw new BadInput(Snapshot.KIND, path, "is missing; " + Manifest.again(Snapshot.KIND));
        } catch (IOException error) {
            throw new BadInput(Snapshot.KIND, path, "can't be read: " + InputFile.reason(error));
        }
    }

    /**
     * The shop's trend on the days of an opened snapshot's rows; null where none is declared, or it has no
     * rows.
     *
     * @throws BadInput where its file is not what the format promises
     */
    public static TrendTable trend(Snapshot snapshot) {
        if (snapshot.trend() == null) {
            return null;
        }
        Path file = Path.of(snapshot.directory()).resolve(Snapshot.TREND_FILE);
        return TrendFile.read(file, file, snapshot.trend());
    }

    /**
     * The next customers, in the snapshot's order; null after the last.
     *
     * @throws BadInput where a shard is not what the format promises
     */
    public CustomerBatch next() {
        try {
            while (!builder.isFull() && (group != null && group.left > 0 || nextGroup())) {
                group.addRow(builder);
            }
        } catch (Unfit error) {
            throw new BadInput(Snapshot.KIND, file, error.getMessage() + "; " + Manifest.again(Snapshot.KIND));
        } catch (IOException | RuntimeException error) { // Parquet's reader throws many kinds
            throw new BadInput(Snapshot.KIND, file, UNREADABLE + "; " + Manifest.again(Snapshot.KIND));
        }
        return builder.isEmpty() ? null : builder.take();
    }

    @Override
    public void close() throws IOException {
        if (parquet != null) {
            parquet.close();
        }
    }

    private boolean nextGroup() throws IOException {
        while (true) {
            PageReadStore pages = parquet == null ? null : parquet.readNextRowGroup();
            if (pages != null) {
                rowsOfShard += pages.getRowCount();
                group = new Group(pages, schema, parquet.getFileMetaData().getCreatedBy());
                return true;
            }
            close();
            parquet = null;
            if (shard != null && rowsOfShard != shard.rows()) {
                throw new Unfit("has " + rowsOfShard + " rows, its manifest says " + shard.rows());
            }
            if (!shards.hasNext()) {
                return false;
            }
            shard = shards.next();
            rowsOfShard = 0;
            file = Path.of(snapshot.directory()).resolve(shard.name());
            var options = ParquetReadOptions.builder(new PlainParquetConfiguration()).build();
            parquet = ParquetFileReader.open(new LocalInputFile(file), options);
            schema = wanted(parquet.getFileMetaData().getSchema());
            parquet.setRequestedSchema(schema);
        }
    }

    /** The four columns that are read. Spark writes other integer types and levels than the Python package. */
    private static MessageType wanted(MessageType found) {
        List<List<PrimitiveTypeName>> kinds =
                List.of(List.of(BINARY), List.of(INT64), List.of(INT32, INT64), List.of(FLOAT));
        List<Type> fields = new ArrayList<>();
        for (int i = 0; i < COLUMNS.size(); i++) {
            String name = COLUMNS.get(i);
            long times = found.getFields().stream().filter(one -> one.getName().equals(name)).count();
            Type field = times == 1 ? found.getType(name) : null;
            MessageType alone = new MessageType("schema", field == null ? List.of() : List.of(field));
            if (alone.getColumns().size() != 1
                    || alone.getColumns().get(0).getMaxRepetitionLevel() != i / 2 // the last two are lists
                    || !kinds.get(i).contains(alone.getColumns().get(0).getPrimitiveType().getPrimitiveTypeName())
                    || !isKind(i, alone.getColumns().get(0).getPrimitiveType().getLogicalTypeAnnotation())) {
                throw new Unfit(field == null
                        ? "has no column " + COLUMNS.get(i) + ", or two"
                        : "its column " + COLUMNS.get(i) + " is not " + KINDS.get(i));
            }
            fields.add(field);
        }
        return new MessageType("schema", fields);
    }

    /** Whether a type's annotation says text, a moment in milliseconds or microseconds, or a signed or small number. */
    private static boolean isKind(int column, LogicalTypeAnnotation said) {
        if (column == 0) {
            return said instanceof StringLogicalTypeAnnotation;
        }
        if (column == 1) {
            return said instanceof TimestampLogicalTypeAnnotation time && time.isAdjustedToUTC()
                    && time.getUnit() != TimeUnit.NANOS;
        }
        return said == null || said instanceof IntLogicalTypeAnnotation whole
                && (whole.isSigned() || whole.getBitWidth() < 64);
    }

    /** Whether the column has no value here. */
    static boolean isNull(ColumnReader column) {
        return column.getCurrentDefinitionLevel() < column.getDescriptor().getMaxDefinitionLevel();
    }

    /** A shard is not what the format promises; the message says why. */
    static final class Unfit extends IllegalArgumentException {
        private static final long serialVersionUID = 1L;

        Unfit(String message) {
            super(message);
        }
    }

    /** The rows of one row group. */
    private static final class Group {
        private final ColumnReader id;
        private final ColumnReader asOf;
        private final ColumnReader columns;
        private final ColumnReader values;
        private final int emptyColumns;
        private final int emptyValues;
        private final boolean wideColumns;
        private final boolean unsignedColumns;
        private final long unitsPerMs;
        private long left;

        Group(PageReadStore pages, MessageType schema, String createdBy) {
            var store = new ColumnReadStoreImpl(pages, new Unused(), schema, createdBy);
            List<ColumnDescriptor> descriptors = schema.getColumns();
            id = store.getColumnReader(descriptors.get(0));
            asOf = store.getColumnReader(descriptors.get(1));
            columns = store.getColumnReader(descriptors.get(2));
            values = store.getColumnReader(descriptors.get(3));
            // An empty list's definition level is the list's own; below it the list itself is null.
            emptyColumns = schema.getMaxDefinitionLevel("columns");
            emptyValues = schema.getMaxDefinitionLevel("values");
            wideColumns = descriptors.get(2).getPrimitiveType().getPrimitiveTypeName() == INT64;
            unsignedColumns = descriptors.get(2).getPrimitiveType().getLogicalTypeAnnotation()
                    instanceof IntLogicalTypeAnnotation whole && !whole.isSigned();
            unitsPerMs = unitsPerMs(descriptors.get(1).getPrimitiveType().getLogicalTypeAnnotation());
            left = pages.getRowCount();
        }

        void addRow(VectorBuilder builder) {
            left--;
            do {
                boolean entry = isEntry(columns, emptyColumns);
                if (entry != isEntry(values, emptyValues)) {
                    throw new Unfit("columns and values differ in length");
                }
                if (entry) {
                    add(builder);
                }
                columns.consume();
                values.consume();
                if (columns.getCurrentRepetitionLevel() != values.getCurrentRepetitionLevel()) {
                    throw new Unfit("columns and values differ in length");
                }
            } while (columns.getCurrentRepetitionLevel() > 0);
            if (isNull(id) || isNull(asOf)) {
                throw new Unfit("has nulls");
            }
            if (asOf.getLong() % unitsPerMs != 0) {
                throw new Unfit("as_of is not in whole milliseconds");
            }
            builder.endRow(text(id.getBinary().toByteBuffer()), asOf.getLong() / unitsPerMs);
            id.consume();
            asOf.consume();
        }

        private void add(VectorBuilder builder) {
            long column;
            if (wideColumns) {
                column = columns.getLong();
            } else {
                int narrow = columns.getInteger();
                column = unsignedColumns ? Integer.toUnsignedLong(narrow) : narrow;
            }
            try {
                builder.entry(column, values.getFloat());
            } catch (IllegalArgumentException error) {
                throw new Unfit(error.getMessage());
            }
        }

        /** A customer's id; Java would put another character for bytes that are not UTF-8. */
        private static String text(ByteBuffer bytes) {
            try {
                String id = StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
                if (id.isEmpty()) {
                    throw new Unfit("a customer_id is empty");
                }
                return id;
            } catch (CharacterCodingException error) {
                throw new Unfit("a customer_id is not UTF-8");
            }
        }

        /** Whether the list has an entry here; else it is empty. */
        private static boolean isEntry(ColumnReader list, int empty) {
            if (!isNull(list)) {
                return true;
            }
            if (list.getCurrentDefinitionLevel() != empty) {
                throw new Unfit("has nulls");
            }
            return false;
        }

        private static long unitsPerMs(LogicalTypeAnnotation kind) {
            if (kind instanceof TimestampLogicalTypeAnnotation time) {
                switch (time.getUnit()) {
                    case MILLIS:
                        return 1;
                    case MICROS:
                        return 1_000;
                    default:
                        return 1_000_000;
                }
            }
            throw new Unfit("as_of is " + kind);
        }
    }

    /** A column reader asks for a converter, which only whole records need. */
    static final class Unused extends GroupConverter {
        private static final PrimitiveConverter LEAF = new PrimitiveConverter() {};

        @Override
        public Converter getConverter(int field) {
            return new Unused();
        }

        @Override
        public PrimitiveConverter asPrimitiveConverter() {
            return LEAF;
        }

        @Override
        public void start() {}

        @Override
        public void end() {}
    }
}
