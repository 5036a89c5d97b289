package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class OnnxBatchesTest {
    /** Of 1,000,000 columns; its largest array has 64 numbers for an entry. */
    private static OnnxBatches batches(List<Integer> hidden) {
        return new OnnxBatches(new Network(
                1_000_000, 3, List.of(0, 2), 2, List.of(), List.of(new FeatureColumns.Range(0, 2)), -1, 0, hidden,
                true, List.of(), Network.Pairs.ALL, 0, 0));
    }

    /** Rows of so many entries each. */
    private static SparseVectors rows(int... entries) {
        long[] indptr = new long[entries.length + 1];
        for (int row = 0; row < entries.length; row++) {
            indptr[row + 1] = indptr[row] + entries[row];
        }
        long[] columns = new long[(int) indptr[entries.length]];
        float[] values = new float[columns.length];
        for (int row = 0; row < entries.length; row++) {
            for (int i = 0; i < entries[row]; i++) {
                columns[(int) indptr[row] + i] = i;
                values[(int) indptr[row] + i] = row + 1;
            }
        }
        return new SparseVectors(indptr, columns, values);
    }

    @Test
    void shorterRowsAreFilledUp() {
        OnnxBatches batches = batches(List.of(64));
        SparseVectors vectors = rows(3, 0, 1, 2);
        assertArrayEquals(new long[] {3, 2}, batches.fill(vectors, 1, 4));
        assertEquals(LongBuffer.wrap(new long[] {0, 0, 0, 0, 0, 1}), batches.columns());
        assertEquals(FloatBuffer.wrap(new float[] {0, 0, 3, 0, 4, 4}), batches.values());
        assertArrayEquals(new long[] {1, 1}, batches.fill(vectors, 1, 2));
        assertEquals(LongBuffer.wrap(new long[1]), batches.columns());
        assertEquals(FloatBuffer.wrap(new float[1]), batches.values());
    }

    @Test
    void manyRowsAreDivided() {
        SparseVectors vectors = rows(IntStream.range(0, 3_000).map(row -> 10).toArray());
        OnnxBatches batches = batches(List.of(64));
        assertEquals(1024, batches.end(vectors, 0));
        assertEquals(2048, batches.end(vectors, 1024));
        assertEquals(3_000, batches.end(vectors, 2048));
    }

    @Test
    void oneLongRowDoesNotMakeAllRowsLong() {
        SparseVectors vectors = rows(IntStream.range(0, 1024).map(row -> row == 500 ? 900_000 : 10).toArray());
        for (OnnxBatches batches : List.of(batches(List.of(64)), batches(List.of()))) {
            assertEquals(500, batches.end(vectors, 0));
            assertEquals(1024, batches.end(vectors, 501));
        }
        assertEquals(501, batches(List.of(64)).end(vectors, 500));
    }
}
