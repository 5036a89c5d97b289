package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class VectorBuilderTest {
    @Test
    void rowsAreGatheredAndTaken() {
        VectorBuilder builder = new VectorBuilder(10, 3);
        builder.entry(2, 1.5f);
        builder.entry(9, 2.5f);
        builder.endRow("a", 5);
        builder.endRow("b", 6); // without an entry
        builder.entry(0, 3.5f);
        builder.endRow("c", 7);
        assertTrue(builder.isFull());
        CustomerBatch batch = builder.take();
        assertArrayEquals(new String[] {"a", "b", "c"}, batch.customerIds());
        assertArrayEquals(new long[] {5, 6, 7}, batch.asOfMs());
        assertArrayEquals(new long[] {0, 2, 2, 3}, batch.vectors().indptr());
        assertArrayEquals(new long[] {2, 9, 0}, batch.vectors().columns());
        assertArrayEquals(new float[] {1.5f, 2.5f, 3.5f}, batch.vectors().values());
        assertTrue(builder.isEmpty());
    }

    @Test
    void itGrows() {
        VectorBuilder builder = new VectorBuilder(100_000, 1);
        for (int i = 0; i < 100_000; i++) {
            builder.entry(i, i);
        }
        builder.endRow("wide", 0);
        assertEquals(99_999f, builder.take().vectors().values()[99_999]);
    }

    @Test
    void columnsThatDoNotAscendAreRefused() {
        VectorBuilder builder = new VectorBuilder(10, 2);
        builder.entry(4, 1);
        assertThrows(IllegalArgumentException.class, () -> builder.entry(4, 1));
        builder.endRow("a", 0);
        builder.entry(4, 1); // another row's
    }

    @Test
    void columnsBeyondTheModelAreRefused() {
        VectorBuilder builder = new VectorBuilder(10, 1);
        assertThrows(IllegalArgumentException.class, () -> builder.entry(10, 1));
        assertThrows(IllegalArgumentException.class, () -> builder.entry(-1, 1));
    }
}
