package streamscorer.djl;

import java.io.Serializable;
import java.time.LocalDate;

/**
 * The shop's trend on some days, without a gap. stream_scorer/core/trend.py says what the numbers are. A
 * customer's vector holds only the day of its as-of moment, in the column of a trend feature.
 *
 * @param firstDay in days since 1970 UTC
 * @param width G times V: contrast by contrast, within it the vocabulary in its order
 * @param contrasts of each day, day by day
 */
public record TrendTable(int firstDay, int width, float[] contrasts) implements Serializable {
    public TrendTable {
        if (width < 1 || contrasts.length == 0 || contrasts.length % width != 0) {
            throw new IllegalArgumentException(
                    contrasts.length + " contrasts are not one day or more of " + width);
        }
    }

    /** Of one day, all 0: what a network is tried with. */
    static TrendTable empty(int width) {
        return new TrendTable(0, width, new float[width]);
    }

    /** D. */
    public int days() {
        return contrasts.length / width;
    }

    /**
     * Refuses customers of a day that the table has not. MXNet would take the nearest day. A customer
     * without a day takes the first.
     *
     * @param column of the day
     * @throws BadInput where there is such a customer
     */
    public void requireDaysOf(SparseVectors vectors, int column) {
        for (int i = 0; i < vectors.columns().length; i++) {
            if (vectors.columns()[i] != column) {
                continue;
            }
            long day = (long) vectors.values()[i];
            if (day < firstDay || day >= (long) firstDay + days()) {
                throw new BadInput("trend", LocalDate.ofEpochDay(day), "a customer is to be scored as of this day, but "
                        + "its trend has only the days " + LocalDate.ofEpochDay(firstDay) + " to "
                        + LocalDate.ofEpochDay(firstDay + days() - 1L) + ": give one that has all days");
            }
        }
    }
}
