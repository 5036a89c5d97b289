package streamscorer.djl;

/**
 * What computes an artefact's network. {@link PropensityModel} calls it from one thread at a time, and has
 * checked what it gives it.
 */
interface Engine extends AutoCloseable {
    /**
     * Probabilities B * N * C of B customers, B from 1 up; customer by customer, category by category.
     *
     * @throws IllegalStateException where the engine fails
     */
    float[] score(SparseVectors vectors);

    /** The shop's trend for what is scored from now on; only of a model that has one. */
    void useTrend(TrendTable table);

    @Override
    void close();
}
