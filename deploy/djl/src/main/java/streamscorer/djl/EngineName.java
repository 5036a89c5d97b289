package streamscorer.djl;

import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/** Which library computes the network. The scores are the same to 1e-5. */
public enum EngineName {
    /** MXNet through DJL, from the artefact's own symbol and parameters. */
    MXNET,
    /** ONNX Runtime, from {@link OnnxFile#NAME}, which lies beside them. */
    ONNX;

    /**
     * The engine of this name, in small letters.
     *
     * @throws BadInput where there is none
     */
    public static EngineName of(String name) {
        for (EngineName engine : values()) {
            if (engine.toString().equals(name)) {
                return engine;
            }
        }
        String names = Arrays.stream(values()).map(EngineName::toString).collect(Collectors.joining(" or "));
        throw new BadInput(Arguments.ENGINE, name, "choose " + names);
    }

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }

    /**
     * Refuses an artefact whose file for this engine is missing, altered, or of another model; without the
     * engine's library.
     *
     * @throws BadInput where it is
     */
    void check(Artefact artefact) {
        if (this == ONNX) {
            OnnxFile.read(artefact);
        }
    }

    /**
     * The engine with the network of a checked artefact.
     *
     * @throws BadInput where its library is not available, or can't load the network
     */
    Engine open(Artefact artefact) {
        return switch (this) {
            case MXNET -> MxnetEngine.open(artefact);
            case ONNX -> OnnxEngine.open(artefact);
        };
    }
}
