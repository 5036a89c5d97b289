package streamscorer.djl;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * The command {@code score MODEL SNAPSHOT --out FILE [--model-engine ENGINE]}. Exit status: 0 done, 1 failed, 2
 * bad input.
 */
public final class Main {
    /** Customers scored at once. */
    static final int BATCH_ROWS = 1024;

    private static final String USAGE =
            "the command is score MODEL SNAPSHOT --out FILE [" + Arguments.ENGINE + " mxnet or onnx]";

    private Main() {}

    public static void main(String[] arguments) {
        // The jar has no logger, which SLF4J would otherwise report on stderr.
        System.setProperty("slf4j.internal.verbosity", "ERROR");
        System.exit(status(arguments));
    }

    private static int status(String[] arguments) {
        try {
            List<String> given = List.of(arguments);
            if (given.isEmpty() || !given.get(0).equals("score")) {
                throw new BadInput("arguments", String.join(" ", arguments), USAGE);
            }
            score(Arguments.parse(given.subList(1, given.size()), USAGE));
            return 0;
        } catch (BadInput error) {
            return failed(error.getMessage(), 2);
        } catch (IOException | InterruptedException | RuntimeException error) {
            return failed(String.valueOf(error.getMessage()).lines().findFirst().orElse(error.toString()), 1);
        } catch (OutOfMemoryError error) {
            return failed("there is not enough memory: give Java more by -Xmx", 1);
        }
    }

    private static int failed(String why, int status) {
        System.err.println("stream-scorer: " + why);
        return status;
    }

    private static void score(Arguments arguments) throws IOException, InterruptedException {
        long start = System.nanoTime();
        Path snapshot = Path.of(arguments.snapshot());
        Path out = Path.of(arguments.out());
        Artefact artefact = Artefact.load(Path.of(arguments.model()));
        try (PropensityModel network = PropensityModel.load(artefact, arguments.engine());
                ScoreWriter writer = new ScoreWriter(out, artefact)) {
            Snapshot opened = SnapshotReader.open(snapshot);
            artefact.requireFeaturesOf(opened);
            TrendTable trend = SnapshotReader.trend(opened);
            if (trend != null) {
                network.useTrend(trend);
            }
            try (SnapshotReader reader = new SnapshotReader(opened, BATCH_ROWS)) {
                long rows = scoreAll(reader, network, writer);
                if (rows != opened.rows()) {
                    throw new BadInput(Snapshot.KIND, snapshot, "has " + rows + " rows, its manifest says "
                            + opened.rows() + "; " + Manifest.again(Snapshot.KIND));
                }
            }
            writer.finish();
            double seconds = (System.nanoTime() - start) / 1e9;
            System.out.printf("%,d customers of %,d categories by model %s to %s in %.1f s: %,.0f a second%n",
                    opened.rows(), artefact.categories().size(), artefact.version(), out, seconds,
                    opened.rows() / seconds);
        }
    }

    /**
     * Scores all customers, and returns how many. While a batch is scored, one thread reads the next and
     * another writes the one before it.
     */
    private static long scoreAll(SnapshotReader reader, PropensityModel model, ScoreWriter writer)
            throws InterruptedException {
        ExecutorService reading = Executors.newSingleThreadExecutor();
        ExecutorService writing = Executors.newSingleThreadExecutor();
        try {
            Future<CustomerBatch> next = reading.submit(reader::next);
            Future<?> written = CompletableFuture.completedFuture(null);
            long rows = 0;
            for (CustomerBatch read; (read = result(next)) != null; ) {
                next = reading.submit(reader::next);
                CustomerBatch batch = read;
                Probabilities scores = model.score(batch.vectors());
                rows += batch.rows();
                result(written);
                written = writing.submit(() -> writer.write(batch, scores));
            }
            result(written);
            return rows;
        } finally {
            reading.shutdown();
            writing.shutdown();
            reading.awaitTermination(1, TimeUnit.MINUTES);
            writing.awaitTermination(1, TimeUnit.MINUTES);
        }
    }

    private static <T> T result(Future<T> future) throws InterruptedException {
        try {
            return future.get();
        } catch (ExecutionException error) {
            if (error.getCause() instanceof RuntimeException cause) {
                throw cause;
            }
            throw new IllegalStateException(error.getCause());
        }
    }
}
