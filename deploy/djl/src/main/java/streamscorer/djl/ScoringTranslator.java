package streamscorer.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.translate.Batchifier;
import ai.djl.translate.Translator;
import ai.djl.translate.TranslatorContext;
import java.util.List;

/**
 * Turns sparse vectors of B customers into the inputs of an engine, and its output (B, N, C) into
 * probabilities by category.
 */
interface ScoringTranslator extends Translator<SparseVectors, Probabilities> {
    /** The model that is scored. */
    Artefact artefact();

    /** The network's inputs, in their order. */
    List<String> inputs();

    /**
     * The shop's trend for what is translated from now on; {@link TrendTable#requireDaysOf} says whether it
     * has all days. Only of a model that has one.
     *
     * @param engine the model's manager: the table is copied into memory of it
     */
    void useTrend(TrendTable trend, NDManager engine);

    /** How many customers from {@code start} on are scored at once, 1 or more. */
    default int rowsAtOnce(SparseVectors vectors, int start) {
        return vectors.rows() - start;
    }

    @Override
    default Probabilities processOutput(TranslatorContext context, NDList output) {
        NDArray found = output.singletonOrThrow();
        int n = artefact().categories().size();
        int c = artefact().classes();
        Shape shape = found.getShape();
        if (shape.dimension() != 3 || shape.get(1) != n || shape.get(2) != c) {
            throw new IllegalStateException("the network answers " + shape + ", not (B, " + n + ", " + c + ")");
        }
        return new Probabilities(artefact().categories(), c, found.toFloatArray());
    }

    /** No batchifier: the input is a batch already. */
    @Override
    default Batchifier getBatchifier() {
        return null;
    }
}
