package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Of three days from 2024-10-04 on, and two contrasts a day. */
class TrendTableTest {
    private static final int COLUMN = 4;
    private static final TrendTable TABLE = new TrendTable(20_000, 2, new float[6]);

    /** Two customers: one without a day, and one as of this day. */
    private static SparseVectors asOf(int day) {
        return new SparseVectors(
                new long[] {0, 1, 3}, new long[] {1, 2, COLUMN}, new float[] {90_000, 1, day});
    }

    @ParameterizedTest
    @ValueSource(ints = {20_000, 20_001, 20_002})
    void itsOwnDaysPass(int day) {
        TABLE.requireDaysOf(asOf(day), COLUMN);
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 19_999, 20_003, 90_000})
    void anotherDayIsRefused(int day) {
        String said = assertThrows(BadInput.class, () -> TABLE.requireDaysOf(asOf(day), COLUMN)).getMessage();
        assertTrue(said.contains("only the days 2024-10-04 to 2024-10-06"), said);
    }

    @Test
    void aTableOfPartOfADayIsRefused() {
        assertEquals(3, TABLE.days());
        assertThrows(IllegalArgumentException.class, () -> new TrendTable(20_000, 4, new float[6]));
        assertThrows(IllegalArgumentException.class, () -> new TrendTable(20_000, 4, new float[0]));
    }
}
