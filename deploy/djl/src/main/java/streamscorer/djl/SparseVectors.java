package streamscorer.djl;

/**
 * Sparse vectors of B customers, as compressed sparse rows: row i has the columns and values from
 * {@code indptr[i]} up to, but not including, {@code indptr[i + 1]}.
 *
 * @param indptr B + 1 positions, from 0, never falling
 * @param columns from 0 to below the model's number of columns, ascending within a row
 * @param values as many as columns
 */
public record SparseVectors(long[] indptr, long[] columns, float[] values) {
    public SparseVectors {
        if (indptr.length == 0 || indptr[indptr.length - 1] != columns.length || columns.length != values.length) {
            throw new IllegalArgumentException("indptr, columns and values differ in length");
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
