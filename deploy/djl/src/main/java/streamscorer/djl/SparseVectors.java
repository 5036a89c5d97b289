package streamscorer.djl;

/**
 * Sparse vectors of B customers, as compressed sparse rows: row i has the columns and values from
 * {@code indptr[i]} up to, but not including, {@code indptr[i + 1]}.
 *
 * @param indptr B + 1 positions, from 0, never falling
 * @param columns from 0 to below the model's number of columns, ascending within a row
 * @param values as many as columns, finite
 */
public record SparseVectors(long[] indptr, long[] columns, float[] values) {
    /** @throws IllegalArgumentException where they are not so; the model checks its number of columns */
    public SparseVectors {
        if (indptr.length == 0 || indptr[0] != 0 || indptr[indptr.length - 1] != columns.length
                || columns.length != values.length) {
            throw new IllegalArgumentException("indptr, columns and values differ in length");
        }
        for (int row = 1; row < indptr.length; row++) {
            if (indptr[row] < indptr[row - 1] || indptr[row] > columns.length) {
                throw new IllegalArgumentException("indptr falls at row " + row);
            }
            for (int i = (int) indptr[row - 1]; i < indptr[row]; i++) {
                if (columns[i] < 0) {
                    throw new IllegalArgumentException("column " + columns[i] + ", there is none below 0");
                }
                if (i > indptr[row - 1] && columns[i] <= columns[i - 1]) {
                    throw new IllegalArgumentException("columns do not ascend");
                }
                if (!Float.isFinite(values[i])) {
                    throw new IllegalArgumentException(VectorBuilder.notFinite(columns[i]));
                }
            }
        }
    }

    /**
     * Refuses a column that a model does not have. MXNet does not check: it reads memory beyond its arrays.
     *
     * @param width F of the model
     * @throws IllegalArgumentException where a column is not below it
     */
    void requireBelow(int width) {
        for (int row = 0; row < rows(); row++) {
            // Columns ascend, so the last one of a row is its largest.
            if (indptr[row + 1] > indptr[row] && columns[(int) indptr[row + 1] - 1] >= width) {
                throw new IllegalArgumentException(
                        VectorBuilder.noColumn(columns[(int) indptr[row + 1] - 1], width));
            }
        }
    }

    /** One customer. */
    public static SparseVectors of(long[] columns, float[] values) {
        return new SparseVectors(new long[] {0, columns.length}, columns, values);
    }

    /** B. */
    public int rows() {
        return indptr.length - 1;
    }
}
