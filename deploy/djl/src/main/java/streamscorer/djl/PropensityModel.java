package streamscorer.djl;

/**
 * An artefact's network in one of the engines.
 *
 * <p>Any number of threads may call {@link #score}; one is served at a time, by all the threads that the
 * engine has: OMP_NUM_THREADS.
 */
public final class PropensityModel implements AutoCloseable {
    private final Artefact artefact;
    private final Engine engine;
    private TrendTable trend;

    private PropensityModel(Artefact artefact, Engine engine) {
        this.artefact = artefact;
        this.engine = engine;
    }

    /**
     * As {@link #load(Artefact, EngineName)} with MXNet.
     *
     * @throws BadInput as it does
     */
    public static PropensityModel load(Artefact artefact) {
        return load(artefact, EngineName.MXNET);
    }

    /**
     * Loads the network of a checked artefact, and compares its scores of the golden batch with those of
     * training.
     *
     * @throws BadInput where the engine is not available, can't load it, or scores otherwise
     */
    public static PropensityModel load(Artefact artefact, EngineName engine) {
        PropensityModel loaded = new PropensityModel(artefact, engine.open(artefact));
        try {
            loaded.tryOnce();
            loaded.checkGoldenBatch();
            return loaded;
        } catch (RuntimeException error) {
            loaded.close();
            throw error;
        }
    }

    /** Scores a customer without any entry: whether the network runs shows only then. */
    private void tryOnce() {
        if (artefact.hasTrend()) {
            engine.useTrend(TrendTable.empty(artefact.network().trendWidth()));
        }
        try {
            requireNumbers(engine.score(SparseVectors.of(new long[0], new float[0])));
        } catch (IllegalStateException error) {
            throw new BadInput(Artefact.KIND, artefact.directory(), error.getMessage());
        }
    }

    private void checkGoldenBatch() {
        GoldenBatch golden = artefact.golden();
        if (golden == null) {
            return;
        }
        if (golden.trend() != null) {
            useTrend(golden.trend());
        }
        float[] found = score(golden.vectors()).values();
        trend = null; // of the golden batch alone
        float worst = 0;
        for (int i = 0; i < found.length; i++) {
            worst = Math.max(worst, Math.abs(found[i] - golden.scores()[i]));
        }
        if (!(worst <= GoldenBatch.TOLERANCE)) {
            String why = "this machine scores its rows differently than training did, by up to %.1e (allowed: %.0e);"
                    + " copy or train the model again, or use the other " + Arguments.ENGINE;
            throw new BadInput(Artefact.KIND, artefact.directory().resolve(GoldenBatch.FILE),
                    why.formatted(worst, GoldenBatch.TOLERANCE));
        }
    }

    /**
     * The shop's trend for what is scored from now on; a model without one ignores it.
     *
     * @throws BadInput where it is not a table of the model's features
     */
    public synchronized void useTrend(TrendTable table) {
        if (!artefact.hasTrend()) {
            return;
        }
        int width = artefact.network().trendWidth();
        if (table.width() != width) {
            throw new BadInput("trend", table.width() + " contrasts a day",
                    "the model needs " + width + ": give the trend of its features");
        }
        engine.useTrend(table);
        trend = table;
    }

    /**
     * Scores B customers; B may be 0.
     *
     * @throws IllegalArgumentException where a column is not one of the model's
     * @throws BadInput where an answer is not a probability, or the model needs a trend and has none of a
     *     customer's day
     */
    public synchronized Probabilities score(SparseVectors vectors) {
        vectors.requireBelow(artefact.columns());
        if (artefact.hasTrend()) {
            if (trend == null) {
                throw new BadInput("trend", "(none)",
                        "the model was trained with one: give it the shop's trend before it scores");
            }
            trend.requireDaysOf(vectors, artefact.network().trend());
        }
        float[] found = vectors.rows() == 0 ? new float[0] : engine.score(vectors);
        requireNumbers(found);
        return new Probabilities(artefact.categories(), artefact.classes(), found);
    }

    /**
     * Refuses what is no probability. Finite weights and values may overflow to infinity inside the
     * network, and two infinities make NaN.
     */
    private void requireNumbers(float[] probabilities) {
        for (float probability : probabilities) {
            if (!(probability >= 0 && probability <= 1)) {
                throw new BadInput("model", artefact.version(), "answers with numbers that are not probabilities,"
                        + " since its weights or the customers' values are too large; train the model again");
            }
        }
    }

    /** The artefact that it was loaded from. */
    public Artefact artefact() {
        return artefact;
    }

    @Override
    public synchronized void close() {
        engine.close();
    }
}
