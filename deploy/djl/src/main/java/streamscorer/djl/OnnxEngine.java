package streamscorer.djl;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.HashMap;
import java.util.Map;

/**
 * An artefact's network in ONNX Runtime, from the file {@link OnnxFile#NAME}. stream_scorer/model/onnx_network.py
 * says what its inputs are, and stream_scorer/model/engines/onnx.py is this in Python.
 */
final class OnnxEngine implements Engine {
    private static final String NO_ONNX_RUNTIME =
            "ONNX Runtime needs Linux on x86-64 or ARM of 64 bits, and a directory for temporary files"
            + " (-Djava.io.tmpdir) in which libraries may be loaded";

    private final OrtEnvironment environment;
    private final OrtSession session;
    private final int width;
    private final OnnxBatches batches;
    private OnnxTensor trend;
    private OnnxTensor firstDay;

    private OnnxEngine(OrtEnvironment environment, OrtSession session, Network network) {
        this.environment = environment;
        this.session = session;
        width = network.categories() * network.classes();
        batches = new OnnxBatches(network);
    }

    /**
     * Loads the network of a checked artefact.
     *
     * @throws BadInput where its ONNX file is missing, altered or of another model, or ONNX Runtime is not
     *     available or can't load it
     */
    static OnnxEngine open(Artefact artefact) {
        byte[] content = OnnxFile.read(artefact);
        OrtEnvironment environment;
        try {
            // Whatever else it has to say, it throws.
            environment = OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
        } catch (LinkageError | RuntimeException error) {
            throw new BadInput("onnxruntime", BadInput.rootMessage(error), NO_ONNX_RUNTIME);
        }
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads(System.getenv("OMP_NUM_THREADS")));
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
            // A plan of memory is kept for each shape of the inputs, and these are never the same twice.
            options.setMemoryPatternOptimization(false);
            // Threads that wait by spinning take the cores from those that read and write.
            options.addConfigEntry("session.intra_op.allow_spinning", "0");
            OrtSession session = environment.createSession(content, options);
            return new OnnxEngine(environment, session, artefact.network());
        } catch (OrtException error) {
            String why = "ONNX Runtime can't load it: " + BadInput.rootMessage(error);
            throw new BadInput(Artefact.KIND, artefact.directory().resolve(OnnxFile.NAME), why);
        }
    }

    /** As many as OMP_NUM_THREADS says, which MXNet's threads follow too; else one for each core. */
    static int threads(String wanted) {
        boolean isNumber = wanted != null && wanted.matches("[1-9]\\d{0,3}");
        return isNumber ? Integer.parseInt(wanted) : Runtime.getRuntime().availableProcessors();
    }

    @Override
    public void useTrend(TrendTable table) {
        closeTrend();
        try {
            trend = floats(table.contrasts(), table.days(), table.width());
            firstDay = floats(new float[] {table.firstDay()}, 1);
        } catch (OrtException error) {
            throw failed(error);
        }
    }

    private OnnxTensor floats(float[] numbers, long... shape) throws OrtException {
        FloatBuffer buffer = ByteBuffer.allocateDirect(Float.BYTES * numbers.length)
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
        buffer.put(numbers).flip();
        return OnnxTensor.createTensor(environment, buffer, shape);
    }

    @Override
    public float[] score(SparseVectors vectors) {
        float[] scores = new float[Math.multiplyExact(vectors.rows(), width)];
        try {
            for (int start = 0, stop; start < vectors.rows(); start = stop) {
                stop = batches.end(vectors, start);
                run(vectors, start, stop, scores);
            }
        } catch (OrtException error) {
            throw failed(error);
        }
        return scores;
    }

    private void run(SparseVectors vectors, int start, int stop, float[] scores) throws OrtException {
        long[] shape = batches.fill(vectors, start, stop);
        try (OnnxTensor columns = OnnxTensor.createTensor(environment, batches.columns(), shape);
                OnnxTensor values = OnnxTensor.createTensor(environment, batches.values(), shape)) {
            Map<String, OnnxTensor> inputs = new HashMap<>(Map.of("columns", columns, "values", values));
            if (trend != null) {
                inputs.put("trend", trend);
                inputs.put("trend_first_day", firstDay);
            }
            try (OrtSession.Result found = session.run(inputs)) {
                FloatBuffer output = ((OnnxTensor) found.get(0)).getFloatBuffer();
                if (output == null || output.remaining() != (stop - start) * width) {
                    throw new IllegalStateException("the network answers with something else than probabilities");
                }
                output.get(scores, start * width, (stop - start) * width);
            }
        }
    }

    private static IllegalStateException failed(OrtException error) {
        return new IllegalStateException("ONNX Runtime failed: " + BadInput.rootMessage(error), error);
    }

    private void closeTrend() {
        if (trend != null) {
            trend.close();
            firstDay.close();
            trend = null;
        }
    }

    @Override
    public void close() {
        closeTrend();
        try {
            session.close();
        } catch (OrtException error) {
            throw failed(error);
        }
    }
}
