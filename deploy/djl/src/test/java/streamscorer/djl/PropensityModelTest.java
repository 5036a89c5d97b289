package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.mxnet.engine.MxNDManager;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A model of random parameters that Python wrote: 6 columns, 3 of 4 categories, every path. */
class PropensityModelTest {
    private static final long TRY_NANOSECONDS = 120_000_000_000L;

    /** Customers without entries, with some, and with others; what Python's MXNet says of them. */
    private static final SparseVectors VECTORS = new SparseVectors(
            new long[] {0, 0, 3, 5}, new long[] {0, 3, 5, 1, 2}, new float[] {1, 2, .5f, 3, 1});
    private static final float[] EXPECTED = {
        .7208484f, .5605321f, .45770508f, .53814745f, .93963736f, .6831588f, .81293035f, .47469229f, .44942772f
    };

    private static final Map<EngineName, PropensityModel> MODELS = new EnumMap<>(EngineName.class);

    @BeforeAll
    static void load() throws URISyntaxException {
        for (EngineName engine : EngineName.values()) {
            MODELS.put(engine, PropensityModel.load(Artefact.load(artefact()), engine));
        }
    }

    @AfterAll
    static void close() {
        MODELS.values().forEach(PropensityModel::close);
    }

    private static Path artefact() throws URISyntaxException {
        return Path.of(PropensityModelTest.class.getResource("/model").toURI());
    }

    private static void copyArtefact(Path copy) throws IOException, URISyntaxException {
        try (Stream<Path> files = Files.list(artefact())) {
            for (Path file : (Iterable<Path>) files::iterator) {
                Files.copy(file, copy.resolve(file.getFileName()));
            }
        }
    }

    private static float[] kept(Probabilities found) {
        float[] all = new float[found.rows() * found.width()];
        for (int row = 0; row < found.rows(); row++) {
            System.arraycopy(found.ofCustomer(row), 0, all, row * found.width(), found.width());
        }
        return all;
    }

    @ParameterizedTest
    @EnumSource
    void aBatchIsScoredAsInPython(EngineName engine) {
        Probabilities found = MODELS.get(engine).score(VECTORS);
        assertArrayEquals(EXPECTED, kept(found), 1e-6f);
        assertEquals(List.of("soup", "milk", "crème"), found.categories());
        assertEquals(1f, found.of(1, 2, 0) + found.of(1, 2, 1), 1e-6f);
    }

    @ParameterizedTest
    @EnumSource
    void aCustomerAloneIsScoredAsInABatch(EngineName engine) {
        Probabilities found = MODELS.get(engine).score(SparseVectors.of(new long[] {1, 2}, new float[] {3, 1}));
        assertArrayEquals(new float[] {EXPECTED[6], EXPECTED[7], EXPECTED[8]}, kept(found), 1e-6f);
    }

    @ParameterizedTest
    @EnumSource
    void customersWithoutAnyEntryAreScored(EngineName engine) {
        Probabilities found = MODELS.get(engine).score(new SparseVectors(new long[3], new long[0], new float[0]));
        assertArrayEquals(
                new float[] {EXPECTED[0], EXPECTED[1], EXPECTED[2], EXPECTED[0], EXPECTED[1], EXPECTED[2]},
                kept(found), 1e-6f);
    }

    @ParameterizedTest
    @EnumSource
    void noCustomersHaveNoScores(EngineName engine) {
        assertEquals(0, MODELS.get(engine).score(new SparseVectors(new long[1], new long[0], new float[0])).rows());
    }

    @ParameterizedTest
    @EnumSource
    void threadsShareTheModel(EngineName engine) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<float[]>> found = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            SparseVectors one = i % 2 == 0 ? VECTORS : SparseVectors.of(new long[] {1, 2}, new float[] {3, 1});
            found.add(threads.submit(() -> kept(MODELS.get(engine).score(one))));
        }
        for (int i = 0; i < 200; i++) {
            float[] right = i % 2 == 0 ? EXPECTED : new float[] {EXPECTED[6], EXPECTED[7], EXPECTED[8]};
            assertArrayEquals(right, found.get(i).get(), 1e-6f);
        }
        threads.shutdown();
    }

    /**
     * What is copied to MXNet must outlive the copy. An input freed too early is wrong, or ends the
     * program; it takes a collection at the wrong moment, so this tries often, but not for
     * ever: how long a collection takes depends on the machine.
     */
    @Test
    void collectingGarbageSpoilsNothing() throws Exception {
        float[] dense = {0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, .5f, 0, 3, 1, 0, 0, 0};
        AtomicBoolean stop = new AtomicBoolean();
        Thread collector = new Thread(() -> {
            while (!stop.get()) {
                System.gc();
            }
        });
        collector.start();
        try (NDManager all = NDManager.newBaseManager("MXNet")) {
            long until = System.nanoTime() + TRY_NANOSECONDS;
            for (int i = 0; i < 10_000 && System.nanoTime() < until; i++) {
                try (MxNDManager manager = (MxNDManager) all.newSubManager()) {
                    NDArray csr = PropensityTranslator.csr(manager, VECTORS, 6);
                    assertArrayEquals(dense, csr.toDense().toFloatArray());
                }
            }
        } finally {
            stop.set(true);
            collector.join();
        }
    }

    /** Java uses SIGSEGV for itself: a libmxnet that takes it over ends the program here. */
    @Test
    void javasOwnSignalsStillWork() {
        int caught = 0;
        for (int i = 0; i < 100_000; i++) {
            String text = i < 50_000 ? "x" : null;
            try {
                text.length();
            } catch (NullPointerException error) {
                caught++;
            }
        }
        assertEquals(50_000, caught);
    }

    @Test
    void alteredParametersAreRefused(@TempDir Path copy) throws Exception {
        copyArtefact(copy);
        Path params = copy.resolve("model-0000.params");
        byte[] content = Files.readAllBytes(params);
        content[content.length / 2] ^= 1;
        Files.write(params, content);
        String message = assertThrows(BadInput.class, () -> Artefact.load(copy)).getMessage();
        assertTrue(message.contains("model-0000.params': its SHA-256 is not the manifest's"), message);
        Files.delete(params);
        message = assertThrows(BadInput.class, () -> Artefact.load(copy)).getMessage();
        assertTrue(message.contains("is missing"), message);
    }

    @Test
    void anOnnxFileIsCheckedBeforeItIsLoaded(@TempDir Path copy) throws Exception {
        copyArtefact(copy);
        Artefact artefact = Artefact.load(copy);
        Path file = copy.resolve(OnnxFile.NAME);
        byte[] content = Files.readAllBytes(file);
        content[content.length / 2] ^= 1;
        Files.write(file, content);
        String message = refusal(artefact);
        assertTrue(message.contains("model.onnx': the SHA-256 of its graph is not the one that it says; delete it"), message);
        Files.delete(file);
        message = refusal(artefact);
        assertTrue(message.contains("model.onnx': is missing"), message);
        String remedy = "stream-scorer models convert %s --to onnx --out %s/model.onnx";
        assertTrue(message.endsWith(remedy.formatted(copy, copy)), message);
        PropensityModel.load(artefact, EngineName.MXNET).close(); // needs no such file
    }

    private static String refusal(Artefact artefact) {
        return assertThrows(BadInput.class, () -> PropensityModel.load(artefact, EngineName.ONNX)).getMessage();
    }

    @Test
    void aDirectoryWithoutAManifestIsRefused(@TempDir Path empty) throws IOException {
        String message = assertThrows(BadInput.class, () -> Artefact.load(empty)).getMessage();
        assertTrue(message.contains("manifest.json': is missing"), message);
    }
}
