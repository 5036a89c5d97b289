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
 * An artefact's network in DJL's MXNet engine, which has one set of intermediate arrays for a network and
 * OMP_NUM_THREADS threads.
 *
 * <p>DJL is kept offline: by default it downloads a libmxnet that it does not find, and reports its use
 * to its makers.
 */
final class MxnetEngine implements Engine {
    private static final String NO_MXNET =
            "MXNet needs Linux x86-64, and the jar of mxnet-native-mkl or MXNET_LIBRARY_PATH, the"
            + " directory of a libmxnet.so; nothing is downloaded";

    private final Model model;
    private final PropensityTranslator translator;
    private final Predictor<SparseVectors, Probabilities> predictor;

    private MxnetEngine(Artefact artefact, Model model) {
        this.model = model;
        this.translator = new PropensityTranslator(artefact);
        this.predictor = model.newPredictor(translator);
    }

    /**
     * Loads the network of a checked artefact.
     *
     * @throws BadInput where MXNet is not available, or can't load it
     */
    static MxnetEngine open(Artefact artefact) {
        System.setProperty("ai.djl.offline", "true");
        System.setProperty("OPT_OUT_TRACKING", "true");
        Model model;
        try {
            model = Model.newInstance("model", Device.cpu(), "MXNet");
        } catch (EngineException | LinkageError error) {
            throw new BadInput("mxnet", BadInput.rootMessage(error), NO_MXNET);
        }
        try {
            model.load(artefact.directory(), "model");
            List<String> inputs = model.describeInput().keys();
            if (!inputs.equals(artefact.hasTrend() ? PropensityTranslator.WITH_TREND : List.of("data"))) {
                throw new MalformedModelException("no parameters for inputs " + inputs);
            }
            return new MxnetEngine(artefact, model);
        } catch (IOException | MalformedModelException | EngineException | NullPointerException error) {
            model.close();
            String why = "MXNet can't load it: " + BadInput.rootMessage(error);
            throw new BadInput(Artefact.KIND, artefact.directory(), why);
        }
    }

    @Override
    public void useTrend(TrendTable table) {
        translator.useTrend(table, model.getNDManager());
    }

    @Override
    public float[] score(SparseVectors vectors) {
        try {
            return predictor.predict(vectors).values();
        } catch (TranslateException error) {
            throw new IllegalStateException("MXNet failed: " + BadInput.rootMessage(error), error);
        }
    }

    @Override
    public void close() {
        predictor.close();
        model.close();
    }
}
