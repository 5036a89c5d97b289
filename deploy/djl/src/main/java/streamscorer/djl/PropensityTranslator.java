package streamscorer.djl;

import ai.djl.mxnet.engine.MxNDArray;
import ai.djl.mxnet.engine.MxNDManager;
import ai.djl.mxnet.jna.JnaUtils;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.ndarray.types.SparseFormat;
import ai.djl.translate.Batchifier;
import ai.djl.translate.Translator;
import ai.djl.translate.TranslatorContext;
import com.sun.jna.Pointer;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;

/**
 * Turns sparse vectors of B customers into the network's one input, a CSR array {@code data} of
 * shape (B, F), and its output (B, N, C) into probabilities by category.
 */
public final class PropensityTranslator implements Translator<SparseVectors, Probabilities> {
    private final Artefact artefact;

    public PropensityTranslator(Artefact artefact) {
        this.artefact = artefact;
    }

    @Override
    public NDList processInput(TranslatorContext context, SparseVectors vectors) {
        vectors.requireBelow(artefact.columns());
        NDArray data = csr((MxNDManager) context.getNDManager(), vectors, artefact.columns());
        data.setName("data");
        return new NDList(data);
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
        ByteBuffer bytes = manager.allocateDirect(Float.BYTES * vectors.values().length);
        bytes.asFloatBuffer().put(vectors.values());
        MxNDArray values = copied(manager, bytes, vectors.values().length, DataType.FLOAT32);
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
        return copied(manager, bytes, numbers.length, DataType.INT64);
    }

    /** A vector with the buffer's contents; the buffer stays reachable until all of it is copied. */
    private static MxNDArray copied(MxNDManager manager, ByteBuffer bytes, int length, DataType kind) {
        MxNDArray array = manager.create(new Shape(length), kind);
        array.set(bytes);
        Reference.reachabilityFence(bytes);
        return array;
    }
}
