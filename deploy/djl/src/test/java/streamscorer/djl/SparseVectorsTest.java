package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

/** MXNet checks nothing: a wrong column reads memory of something else, or ends the program. */
class SparseVectorsTest {
    private static String refusal(long[] indptr, long[] columns, float... values) {
        return assertThrows(IllegalArgumentException.class, () -> new SparseVectors(indptr, columns, values))
                .getMessage();
    }

    @Test
    void aColumnBelowZeroIsRefused() {
        assertEquals("column -1, there is none below 0", refusal(new long[] {0, 1}, new long[] {-1}, 1f));
    }

    @Test
    void aColumnBeyondTheModelIsRefused() {
        SparseVectors vectors = new SparseVectors(new long[] {0, 0, 2}, new long[] {1, 6}, new float[] {1f, 1f});
        assertDoesNotThrow(() -> vectors.requireBelow(7));
        String message = assertThrows(IllegalArgumentException.class, () -> vectors.requireBelow(6)).getMessage();
        assertEquals("column 6, there are only the columns 0 to 5", message);
    }

    @Test
    void columnsThatDoNotAscendAreRefused() {
        assertEquals("columns do not ascend", refusal(new long[] {0, 2}, new long[] {2, 1}, 1f, 1f));
        assertEquals("columns do not ascend", refusal(new long[] {0, 2}, new long[] {1, 1}, 1f, 1f));
        assertDoesNotThrow(() -> new SparseVectors(new long[] {0, 1, 2}, new long[] {2, 1}, new float[] {1f, 1f}));
    }

    @Test
    void valuesThatAreNotFiniteAreRefused() {
        assertEquals("a value of column 1 is not a finite number", refusal(new long[] {0, 1}, new long[] {1}, Float.NaN));
        assertEquals("a value of column 1 is not a finite number",
                refusal(new long[] {0, 1}, new long[] {1}, Float.POSITIVE_INFINITY));
    }

    @Test
    void positionsThatFallAreRefused() {
        assertEquals("indptr falls at row 2", refusal(new long[] {0, 2, 1, 2}, new long[] {1, 2}, 1f, 1f));
        assertEquals("indptr falls at row 1", refusal(new long[] {0, 9, 2}, new long[] {1, 2}, 1f, 1f));
        assertEquals("indptr, columns and values differ in length",
                refusal(new long[] {1, 2}, new long[] {1, 2}, 1f, 1f));
        assertEquals("indptr, columns and values differ in length", refusal(new long[] {}, new long[] {}));
    }
}
