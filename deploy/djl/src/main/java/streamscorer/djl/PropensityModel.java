package streamscorer.djl;

import ai.djl.Device;
import ai.djl.MalformedModelException;
import ai.djl.Model;
import ai.djl.engine.EngineException;
import ai.djl.inference.Predictor;
import ai.djl.translate.TranslateException;
import java.io.IOException;
import java.util.List;

/**
 * An artefact's network in DJL's MXNet engine.
 *
 * <p>Any number of threads may call {@link #score}; one is served at a time, by all the threads that
 * MXNet has (OMP_NUM_THREADS), since the engine keeps one set of intermediate arrays for a network.
 *
 * <p>DJL is kept offline: by default it downloads a libmxnet that it does not find, and reports its use
 * to its makers.
 */
public final class PropensityModel implements AutoCloseable {
    private static final String NO_MXNET =
            "MXNet needs Linux x86-64, and the jar of mxnet-native-mkl or MXNET_LIBRARY_PATH, the"
            + " directory of a libmxnet.so; nothing is downloaded";

    private final Artefact artefact;
    private final Model model;
    private final PropensityTranslator translator;
    private final Predictor<SparseVectors, Probabilities> predictor;
    private TrendTable trend;

    private PropensityModel(Artefact artefact, Model model) {
        this.artefact = artefact;
        this.model = model;
        this.translator = new PropensityTranslator(artefact);
        this.predictor = model.newPredictor(translator);
    }

    /**
     * Loads the network of a checked artefact.
     *
     * @throws BadInput where MXNet is not available, or can't load it
     */
    public static PropensityModel load(Artefact artefact) {
        System.setProperty("ai.djl.offline", "true");
        System.setProperty("OPT_OUT_TRACKING", "true");
        Model model;
        try {
            model = Model.newInstance("model", Device.cpu(), "MXNet");
        } catch (EngineException | LinkageError error) {
            throw new BadInput("mxnet", rootMessage(error), NO_MXNET);
        }
        try {
            model.load(artefact.directory(), "model");
            List<String> inputs = model.describeInput().keys();
            if (!inputs.equals(artefact.hasTrend() ? PropensityTranslator.WITH_TREND : List.of("data"))) {
                throw new MalformedModelException("no parameters for inputs " + inputs);
            }
            PropensityModel loaded = new PropensityModel(artefact, model);
            loaded.tryOnce();
            return loaded;
        } catch (IOException | MalformedModelException | EngineException | NullPointerException error) {
            model.close();
            throw new BadInput("model", artefact.directory(), "MXNet can't load it: " + rootMessage(error));
        }
    }

    private void copyTrend(TrendTable table) {
        translator.useTrend(table, model.getNDManager());
    }

    /** Scores a customer without any entry: whether the network runs shows only then. */
    private void tryOnce() throws MalformedModelException {
        if (artefact.hasTrend()) {
            copyTrend(TrendTable.empty(artefact.trendWidth()));
        }
        try {
            requireNumbers(predictor.predict(SparseVectors.of(new long[0], new float[0])).values());
        } catch (TranslateException error) {
            throw new MalformedModelException(rootMessage(error), error);
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
        if (table.width() != artefact.trendWidth()) {
            throw new BadInput("trend", table.width() + " contrasts a day", "the model needs "
                    + artefact.trendWidth() + ": give the trend of its features");
        }
        copyTrend(table);
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
            trend.requireDaysOf(vectors, artefact.trendColumn());
        }
        if (vectors.rows() == 0) {
            return new Probabilities(artefact.categories(), artefact.classes(), new float[0]);
        }
        try {
            Probabilities found = predictor.predict(vectors);
            requireNumbers(found.values());
            return found;
        } catch (TranslateException error) {
            throw new IllegalStateException("MXNet failed: " + rootMessage(error), error);
        }
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
        predictor.close();
        model.close();
    }

    private static String rootMessage(Throwable error) {
        while (error.getCause() != null) {
            error = error.getCause();
        }
        return String.valueOf(error.getMessage()).lines().findFirst().orElse("");
    }
}
