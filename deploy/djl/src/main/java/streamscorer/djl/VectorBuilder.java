package streamscorer.djl;

import java.util.Arrays;

/** Gathers customers, a row at a time, into a {@link CustomerBatch}; checks what it is given. */
public final class VectorBuilder {
    private final int features;
    private final String[] ids;
    private final long[] asOfMs;
    private final long[] indptr;
    private long[] columns = new long[1 << 12];
    private float[] values = new float[1 << 12];
    private int rows;
    private int entries;

    /**
     * @param features F
     * @param capacity rows that fit
     */
    public VectorBuilder(int features, int capacity) {
        this.features = features;
        ids = new String[capacity];
        asOfMs = new long[capacity];
        indptr = new long[capacity + 1];
    }

    /** Whether it has room for no more rows. */
    public boolean isFull() {
        return rows == ids.length;
    }

    /** Whether no row was added. */
    public boolean isEmpty() {
        return rows == 0;
    }

    /**
     * Adds an entry to the current row.
     *
     * @throws IllegalArgumentException where the column is not above the row's last one or not below F, or
     *     the value is not finite
     */
    public void entry(long column, float value) {
        if (column >= features || column < 0) {
            throw new IllegalArgumentException(noColumn(column, features));
        }
        if (!Float.isFinite(value)) {
            throw new IllegalArgumentException(notFinite(column));
        }
        if (entries > indptr[rows] && column <= columns[entries - 1]) {
            throw new IllegalArgumentException("columns do not ascend");
        }
        if (entries == columns.length) {
            columns = Arrays.copyOf(columns, 2 * entries);
            values = Arrays.copyOf(values, 2 * entries);
        }
        columns[entries] = column;
        values[entries++] = value;
    }

    /** The problem of a column that F columns do not have. */
    static String noColumn(long column, int features) {
        return "column " + column + ", there are only the columns 0 to " + (features - 1);
    }

    static String notFinite(long column) {
        return "a value of column " + column + " is not a finite number";
    }

    /** Ends the current row. */
    public void endRow(String customerId, long asOf) {
        ids[rows] = customerId;
        asOfMs[rows++] = asOf;
        indptr[rows] = entries;
    }

    /** What was added; the builder is empty afterwards. */
    public CustomerBatch take() {
        SparseVectors vectors = new SparseVectors(
                Arrays.copyOf(indptr, rows + 1), Arrays.copyOf(columns, entries), Arrays.copyOf(values, entries));
        CustomerBatch batch =
                new CustomerBatch(Arrays.copyOf(ids, rows), Arrays.copyOf(asOfMs, rows), vectors);
        rows = 0;
        entries = 0;
        return batch;
    }
}
