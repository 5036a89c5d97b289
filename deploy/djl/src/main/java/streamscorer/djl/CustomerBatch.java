package streamscorer.djl;

/**
 * B customers of a snapshot.
 *
 * @param customerIds B
 * @param asOfMs B; milliseconds since 1970 UTC, the moment that the vector describes
 * @param vectors of the B customers
 */
public record CustomerBatch(String[] customerIds, long[] asOfMs, SparseVectors vectors) {
    /** B. */
    public int rows() {
        return customerIds.length;
    }
}
