package streamscorer.djl;

import ai.djl.mxnet.engine.MxNDArray;
import ai.djl.mxnet.engine.MxNDManager;
import ai.djl.mxnet.jna.JnaUtils;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.ndarray.types.SparseFormat;
import ai.djl.translate.Batchifier;
import ai.djl.translate.Translator;
import ai.djl.translate.TranslatorContext;
import com.sun.jna.Pointer;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.List;

/**
 * Turns sparse vectors of B customers into the network's input, a CSR array {@code data} of shape (B, F),
 * and its output (B, N, C) into probabilities by category. A model with a trend has two more inputs, {@code
 * trend} (D, G * V) and {@code trend_first_day} (1).
 */
public final class PropensityTranslator implements Translator<SparseVectors, Probabilities> {
    /** The inputs of a model with a trend. */
    static final List<String> WITH_TREND = List.of("data", "trend", "trend_first_day");

    private final Artefact artefact;
    private MxNDArray table;
    private MxNDArray firstDay;

    public PropensityTranslator(Artefact artefact) {
        this.artefact = artefact;
    }

    /**
     * The shop's trend for what is translated from now on; {@link TrendTable#requireDaysOf} says whether it
     * has all days. Only of a model that has one.
     *
     * @param engine the model's manager: the table is copied into memory of it
     */
    public void useTrend(TrendTable trend, NDManager engine) {
        MxNDManager manager = (MxNDManager) engine;
        if (table != null) {
            table.close();
            firstDay.close();
        }
        table = floats(manager, trend.contrasts(), new Shape(trend.days(), trend.width()));
        firstDay = floats(manager, new float[] {trend.firstDay()}, new Shape(1));
        table.setName(WITH_TREND.get(1));
        firstDay.setName(WITH_TREND.get(2));
    }

    @Override
    public NDList processInput(TranslatorContext context, SparseVectors vectors) {
        vectors.requireBelow(artefact.columns());
        NDArray data = csr((MxNDManager) context.getNDManager(), vectors, artefact.columns());
        data.setName("data");
        if (!artefact.hasTrend()) {
            return new NDList(data);
        }
        if (table == null) {
            throw new IllegalStateException("the model has a trend: call useTrend first");
        }
        return new NDList(data, table, firstDay);
    }

    @Override
    public Probabilities processOutput(TranslatorContext context, NDList output) {
        NDArray found = output.singletonOrThrow();
        int n = artefact.categories().size();
        int c = artefact.classes();
        Shape shape = found.getShape();
        if (shape.dimension() != 3 || shape.get(1) != n || shape.get(2) != c) {
            throw new IllegalStateException("the network answers " + shape + ", not (B, " + n + ", " + c + ")");
        }
        return new Probabilities(artefact.categories(), c, found.toFloatArray());
    }

    /** No batchifier: the input is a batch already. */
    @Override
    public Batchifier getBatchifier() {
        return null;
    }

    /**
     * Makes what {@code NDManager.createCSR} makes. That method copies from direct buffers to which
     * nothing refers during the copy: a garbage collection at that moment frees them, and MXNet reads
     * freed memory (DJL 0.36.0; its issue 3699). PropensityModelTest.collectingGarbageSpoilsNothing
     * tests this.
     */
    static NDArray csr(MxNDManager manager, SparseVectors vectors, int columns) {
        MxNDArray indptr = longs(manager, vectors.indptr());
        MxNDArray indices = longs(manager, vectors.columns());
        MxNDArray values = floats(manager, vectors.values(), new Shape(vectors.values().length));
        Pointer handle = JnaUtils.createSparseNdArray(
                SparseFormat.CSR,
                manager.getDevice(),
                new Shape(vectors.rows(), columns),
                DataType.FLOAT32,
                new DataType[] {DataType.INT64, DataType.INT64},
                new Shape[] {indptr.getShape(), indices.getShape()},
                false);
        MxNDArray csr = manager.create(handle, SparseFormat.CSR);
        JnaUtils.ndArraySyncCopyFromNdArray(csr, values, -1);
        JnaUtils.ndArraySyncCopyFromNdArray(csr, indptr, 0);
        JnaUtils.ndArraySyncCopyFromNdArray(csr, indices, 1);
        return csr;
    }

    private static MxNDArray longs(MxNDManager manager, long[] numbers) {
        ByteBuffer bytes = manager.allocateDirect(Long.BYTES * numbers.length);
        bytes.asLongBuffer().put(numbers);
        return copied(manager, bytes, new Shape(numbers.length), DataType.INT64);
    }

    private static MxNDArray floats(MxNDManager manager, float[] numbers, Shape shape) {
        ByteBuffer bytes = manager.allocateDirect(Float.BYTES * numbers.length);
        bytes.asFloatBuffer().put(numbers);
        return copied(manager, bytes, shape, DataType.FLOAT32);
    }

    /** An array with the buffer's contents; the buffer stays reachable until all of it is copied. */
    private static MxNDArray copied(MxNDManager manager, ByteBuffer bytes, Shape shape, DataType kind) {
        MxNDArray array = manager.create(shape, kind);
        array.set(bytes);
        Reference.reachabilityFence(bytes);
        return array;
    }
}
