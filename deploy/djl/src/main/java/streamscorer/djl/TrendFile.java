package streamscorer.djl;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.apache.parquet.ParquetReadOptions;
import org.apache.parquet.column.ColumnDescriptor;
import org.apache.parquet.column.ColumnReader;
import org.apache.parquet.column.impl.ColumnReadStoreImpl;
import org.apache.parquet.column.page.PageReadStore;
import org.apache.parquet.conf.PlainParquetConfiguration;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.io.LocalInputFile;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.PrimitiveType.PrimitiveTypeName;

/**
 * The shop's trend in a snapshot: day, and a list of contrasts. stream_scorer/io/files/snapshot_trend.py
 * describes the file.
 */
final class TrendFile {
    /** Of a table; the Python package writes no larger one. */
    static final long MOST_BYTES = 1L << 29;

    private static final String WRONG = "has not the days and contrasts of this snapshot";

    private TrendFile() {}

    /**
     * The table; null where it has no day, since the snapshot has no rows.
     *
     * @param shown the file in error messages
     * @throws BadInput where it is not what the manifest says
     */
    static TrendTable read(Path file, Object shown, Snapshot.Trend expected) {
        long numbers = expected.file().rows() * expected.width();
        try {
            if (expected.file().rows() > MOST_BYTES || Float.BYTES * numbers > MOST_BYTES) {
                throw new SnapshotReader.Unfit(WRONG);
            }
            float[] contrasts = contrasts(file, expected, (int) numbers);
            return contrasts.length == 0 ? null : new TrendTable(expected.firstDay(), expected.width(), contrasts);
        } catch (SnapshotReader.Unfit error) {
            throw new BadInput(Snapshot.KIND, shown, error.getMessage() + "; " + Manifest.again(Snapshot.KIND));
        } catch (IOException | RuntimeException error) { // Parquet's reader throws many kinds
            throw new BadInput(Snapshot.KIND, shown, SnapshotReader.UNREADABLE + "; " + Manifest.again(Snapshot.KIND));
        }
    }

    private static float[] contrasts(Path file, Snapshot.Trend expected, int numbers) throws IOException {
        float[] contrasts = new float[numbers];
        int filled = 0;
        int day = expected.firstDay();
        var options = ParquetReadOptions.builder(new PlainParquetConfiguration()).build();
        try (ParquetFileReader parquet = ParquetFileReader.open(new LocalInputFile(file), options)) {
            MessageType schema = wanted(parquet.getFileMetaData().getSchema());
            parquet.setRequestedSchema(schema);
            for (PageReadStore pages; (pages = parquet.readNextRowGroup()) != null; ) {
                var store = new ColumnReadStoreImpl(
                        pages, new SnapshotReader.Unused(), schema, parquet.getFileMetaData().getCreatedBy());
                ColumnReader days = store.getColumnReader(schema.getColumns().get(0));
                ColumnReader values = store.getColumnReader(schema.getColumns().get(1));
                for (long row = 0; row < pages.getRowCount(); row++) {
                    require(!SnapshotReader.isNull(days) && days.getInteger() == day++);
                    days.consume();
                    int end = Math.addExact(filled, expected.width());
                    do {
                        require(!SnapshotReader.isNull(values) && filled < Math.min(end, numbers));
                        contrasts[filled] = values.getFloat();
                        require(Float.isFinite(contrasts[filled++]));
                        values.consume();
                    } while (values.getCurrentRepetitionLevel() > 0);
                    require(filled == end);
                }
            }
        }
        require(filled == numbers);
        return contrasts;
    }

    /** The two columns. */
    private static MessageType wanted(MessageType found) {
        require(found.containsField("day") && found.containsField("contrasts"));
        MessageType wanted = new MessageType("schema", found.getType("day"), found.getType("contrasts"));
        List<ColumnDescriptor> columns = wanted.getColumns();
        require(columns.size() == 2
                && columns.get(0).getPrimitiveType().getPrimitiveTypeName() == PrimitiveTypeName.INT32
                && columns.get(0).getMaxRepetitionLevel() == 0
                && columns.get(1).getPrimitiveType().getPrimitiveTypeName() == PrimitiveTypeName.FLOAT
                && columns.get(1).getMaxRepetitionLevel() == 1);
        return wanted;
    }

    private static void require(boolean right) {
        if (!right) {
            throw new SnapshotReader.Unfit(WRONG);
        }
    }
}
