package streamscorer.djl;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;

/**
 * Sparse vectors as ONNX Runtime takes them, which multiplies no sparse matrices: rows of columns and of
 * values, all as long as the longest, shorter ones filled up with column 0 and value 0. A batch is divided so
 * that no array of a run is large, and one customer with many entries does not make all rows long.
 */
final class OnnxBatches {
    private static final int MAX_ROWS = 1024;

    /** Numbers that the largest array of a run may have: 64 MB of floats. */
    private static final long MOST_NUMBERS = 1 << 24;

    /** 16 bytes: its column, its value, and its place among own columns. */
    private static final long NUMBERS_OF_AN_ENTRY = 4;

    private final long numbersPerEntry;
    private final long numbersPerRow;
    private ByteBuffer columnBytes = ByteBuffer.allocateDirect(0);
    private ByteBuffer valueBytes = ByteBuffer.allocateDirect(0);

    OnnxBatches(Network network) {
        var shapes = network.shapes();
        long gathered = 0;
        for (String name : new String[] {"input_weight", "linear_weight"}) {
            gathered += shapes.containsKey(name) ? shapes.get(name)[1] : 0;
        }
        numbersPerEntry = Math.max(gathered, NUMBERS_OF_AN_ENTRY);
        int units = network.pooled().stream().mapToInt(i -> i).max().orElse(0);
        long ofCategory = Math.max(network.own().size() + network.contrasts(), Math.max(units, network.classes()));
        // A row's trend is of the whole vocabulary before the model's categories are taken from it.
        numbersPerRow = Math.max(
                network.categories() * ofCategory + network.customerColumns(), network.trendWidth());
    }

    /** Up to, but not including, which row the rows from {@code start} on are scored in one run: 1 or more. */
    int end(SparseVectors vectors, int start) {
        long longest = 0;
        int stop = start;
        while (stop < vectors.rows() && stop - start < MAX_ROWS) {
            longest = Math.max(longest, vectors.indptr()[stop + 1] - vectors.indptr()[stop]);
            long perRow = Math.max(longest * numbersPerEntry, numbersPerRow);
            if (stop > start && (stop + 1 - start) * perRow > MOST_NUMBERS) {
                break;
            }
            stop++;
        }
        return stop;
    }

    /** Fills both arrays with rows, and returns their shape: B, and the entries of the longest row or 1. */
    long[] fill(SparseVectors vectors, int start, int stop) {
        int length = 1;
        for (int row = start; row < stop; row++) {
            length = (int) Math.max(length, vectors.indptr()[row + 1] - vectors.indptr()[row]);
        }
        int rows = stop - start;
        columnBytes = withRoom(columnBytes, (long) Long.BYTES * rows * length);
        valueBytes = withRoom(valueBytes, (long) Float.BYTES * rows * length);
        LongBuffer columns = columns();
        FloatBuffer values = values();
        for (int row = start; row < stop; row++) {
            int from = (int) vectors.indptr()[row];
            int entries = (int) vectors.indptr()[row + 1] - from;
            columns.put(vectors.columns(), from, entries);
            values.put(vectors.values(), from, entries);
            for (int i = entries; i < length; i++) {
                columns.put(0);
                values.put(0);
            }
        }
        return new long[] {rows, length};
    }

    /** int64 (B, length) of the last fill. */
    LongBuffer columns() {
        return columnBytes.asLongBuffer();
    }

    /** float32 (B, length) of the last fill. */
    FloatBuffer values() {
        return valueBytes.asFloatBuffer();
    }

    /** A buffer outside the heap of so many bytes: the same one where that has as many. */
    private static ByteBuffer withRoom(ByteBuffer buffer, long bytes) {
        int wanted = Math.toIntExact(bytes);
        ByteBuffer roomy = buffer.capacity() >= wanted ? buffer : ByteBuffer.allocateDirect(wanted);
        return roomy.clear().limit(wanted).order(ByteOrder.nativeOrder());
    }
}
