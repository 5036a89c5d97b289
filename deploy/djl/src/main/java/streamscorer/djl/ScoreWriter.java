package streamscorer.djl;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.parquet.bytes.HeapByteBufferAllocator;
import org.apache.parquet.column.ColumnDescriptor;
import org.apache.parquet.column.ColumnWriteStore;
import org.apache.parquet.column.ColumnWriter;
import org.apache.parquet.column.ParquetProperties;
import org.apache.parquet.compression.CompressionCodecFactory;
import org.apache.parquet.conf.PlainParquetConfiguration;
import org.apache.parquet.hadoop.CodecFactory;
import org.apache.parquet.hadoop.ColumnChunkPageWriteStore;
import org.apache.parquet.hadoop.ParquetFileWriter;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.apache.parquet.io.LocalOutputFile;
import org.apache.parquet.io.api.Binary;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.MessageTypeParser;

/**
 * Writes scores as a Parquet file: customer_id, as_of, and probabilities, a list of the same length in
 * every row ({@link Probabilities#width}), which Arrow reads as a list of fixed size. The metadata has
 * categories (a JSON list), classes and model_version.
 *
 * <p>Rows go to a file beside the target, which gets the target's name when {@link #finish} is called;
 * closing without it leaves nothing. Memory holds one row group. Columns are written as columns: through
 * Parquet's record interface each probability would take three times as long.
 */
public final class ScoreWriter implements AutoCloseable {
    private static final int ROWS_PER_GROUP = 8192;
    private static final MessageType SCHEMA = MessageTypeParser.parseMessageType("""
            message schema {
              optional binary customer_id (STRING);
              optional int64 as_of (TIMESTAMP(MILLIS,true));
              optional group probabilities (LIST) { repeated group list { optional float element; } }
            }""");
    private static final List<ColumnDescriptor> COLUMNS = SCHEMA.getColumns();
    private static final ParquetProperties PROPERTIES = ParquetProperties.builder()
            .withDictionaryEncoding(false)
            .withAllocator(new HeapByteBufferAllocator())
            .build();

    private final Path file;
    private final Path work;
    private final List<Path> made = new ArrayList<>();
    private final Map<String, String> metadata;
    private final CompressionCodecFactory codecs =
            new CodecFactory(new PlainParquetConfiguration(), PROPERTIES.getPageSizeThreshold());
    private final ParquetFileWriter parquet;
    private ColumnChunkPageWriteStore pages;
    private ColumnWriteStore store;
    private int rows;

    /**
     * @param file must not exist; its directory is made
     * @throws BadInput where it exists or can't be written
     */
    public ScoreWriter(Path file, Artefact artefact) {
        this.file = file.toAbsolutePath();
        // With the process's number, so that two that write the same file do not write into each other's.
        work = this.file.resolveSibling("." + file.getFileName() + "." + ProcessHandle.current().pid() + ".part");
        metadata = new HashMap<>(artefact.described());
        metadata.put("ARROW:schema", ArrowSchema.ofScores(artefact.scoresPerCustomer(), artefact.described()));
        if (Files.exists(file)) {
            throw new BadInput("scores", file, "already exists; choose another path or delete it");
        }
        for (Path parent = this.file.getParent(); !Files.exists(parent); parent = parent.getParent()) {
            made.add(parent);
        }
        try {
            Files.createDirectories(this.file.getParent());
            parquet = new ParquetFileWriter(new LocalOutputFile(work), SCHEMA,
                    ParquetFileWriter.Mode.OVERWRITE, 0, 0, null, PROPERTIES);
            parquet.start();
        } catch (IOException error) {
            removeWork();
            throw unwritable(error);
        }
        startGroup();
    }

    /** Adds B customers. */
    public void write(CustomerBatch batch, Probabilities probabilities) {
        try {
            for (int row = 0; row < batch.rows(); row++) {
                if (rows == ROWS_PER_GROUP) {
                    endGroup();
                    startGroup();
                }
                addRow(batch.customerIds()[row], batch.asOfMs()[row], probabilities.ofCustomer(row));
            }
        } catch (IOException error) {
            throw unwritable(error);
        }
    }

    /** Gives the file its name: all of it is there. */
    public void finish() {
        try {
            endGroup();
            parquet.end(metadata);
            Files.move(work, file);
        } catch (IOException error) {
            throw unwritable(error);
        }
    }

    @Override
    public void close() throws IOException {
        try {
            store.close();
            pages.close();
            parquet.close();
            codecs.release();
        } finally {
            removeWork();
        }
    }

    /** Deletes what was written, and the directories that were made as long as they are empty. */
    private void removeWork() {
        try {
            Files.deleteIfExists(work);
            for (Path parent : made) {
                Files.delete(parent);
            }
        } catch (IOException error) {
            return; // one is not empty, or the disk refuses, which is why this is called
        }
    }

    private void startGroup() {
        pages = new ColumnChunkPageWriteStore(codecs.getCompressor(CompressionCodecName.ZSTD), SCHEMA,
                PROPERTIES.getAllocator(), PROPERTIES.getColumnIndexTruncateLength());
        store = PROPERTIES.newColumnWriteStore(SCHEMA, pages);
        rows = 0;
    }

    private void addRow(String id, long asOfMs, float[] probabilities) {
        store.getColumnWriter(COLUMNS.get(0)).write(Binary.fromString(id), 0, 1);
        store.getColumnWriter(COLUMNS.get(1)).write(asOfMs, 0, 1);
        ColumnWriter list = store.getColumnWriter(COLUMNS.get(2));
        for (int i = 0; i < probabilities.length; i++) {
            list.write(probabilities[i], i == 0 ? 0 : 1, 3); // 0: a row's first; 3: neither list nor value is null
        }
        store.endRecord();
        rows++;
    }

    private void endGroup() throws IOException {
        if (rows > 0) {
            parquet.startBlock(rows);
            store.flush();
            pages.flushToFileWriter(parquet);
            parquet.endBlock();
        }
        store.close();
        pages.close();
    }

    private BadInput unwritable(IOException error) {
        return new BadInput("scores", file, "can't be written: " + InputFile.reason(error));
    }
}
