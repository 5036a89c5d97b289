package streamscorer.djl;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.expr;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.hadoop.fs.FileSystem;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.MetadataBuilder;
import org.apache.spark.util.SerializableConfiguration;

/**
 * Scores a snapshot on Spark: {@code spark-submit --class streamscorer.djl.SparkScore
 * stream-scorer-djl.jar MODEL SNAPSHOT --out DIRECTORY [--model-engine ENGINE]}; each of the three may be any
 * path that Hadoop reads.
 *
 * <p>The model's files are broadcast; each executor loads them once for all its tasks. Each task reads
 * its part of the shards, gathers {@link Main#BATCH_ROWS} customers, scores them, and hands them on.
 * Before that, every shard is compared with its SHA-256, a task for each.
 */
public final class SparkScore {
    private static final int MAX_FILE_BYTES = 1 << 30; // a broadcast holds all of a model's files

    private static final String USAGE =
            "give MODEL SNAPSHOT --out DIRECTORY [" + Arguments.ENGINE + " mxnet or onnx]";

    private static final Pattern BAD_INPUT = Pattern.compile("BadInput: (.+)");

    private SparkScore() {}

    /** A customer's scores, as {@link Probabilities#ofCustomer} has them. */
    public static final class Scored {
        private String id;
        private long asOfMs;
        private float[] probabilities;

        public String getId() {
            return id;
        }

        public void setId(String id) {
            this.id = id;
        }

        public long getAsOfMs() {
            return asOfMs;
        }

        public void setAsOfMs(long asOfMs) {
            this.asOfMs = asOfMs;
        }

        public float[] getProbabilities() {
            return probabilities;
        }

        public void setProbabilities(float[] probabilities) {
            this.probabilities = probabilities;
        }
    }

    public static void main(String[] arguments) {
        System.exit(status(arguments));
    }

    private static int status(String[] arguments) {
        try (SparkSession spark = SparkSession.builder().appName("stream-scorer score").getOrCreate()) {
            Arguments given = Arguments.parse(List.of(arguments), USAGE);
            // What goes wrong is reported in one line below; Spark's own account of a task that failed has
            // hundreds. --conf spark.log.level=ERROR shows it.
            if (!spark.sparkContext().getConf().contains("spark.log.level")) {
                spark.sparkContext().setLogLevel("OFF");
            }
            org.apache.hadoop.fs.Path out = new org.apache.hadoop.fs.Path(given.out());
            if (out.getFileSystem(spark.sparkContext().hadoopConfiguration()).exists(out)) {
                throw new BadInput("scores", out, "already exists; choose another path or delete it");
            }
            write(spark, given, out);
            return 0;
        } catch (Exception error) { // Spark throws checked exceptions that it does not declare
            BadInput badInput = badInput(error);
            System.err.println("stream-scorer: " + (badInput == null ? firstLine(error) : badInput.getMessage()));
            return badInput == null ? 1 : 2;
        }
    }

    /** Writes the scores; where that fails nothing is left of them. */
    private static void write(SparkSession spark, Arguments given, org.apache.hadoop.fs.Path out) throws Exception {
        String snapshot = given.snapshot();
        Prepared prepared = prepared(spark, given.model(), snapshot, given.engine());
        FileSystem files = out.getFileSystem(spark.sparkContext().hadoopConfiguration());
        List<org.apache.hadoop.fs.Path> missing = new ArrayList<>();
        for (var parent = out.getParent(); parent != null && !files.exists(parent); parent = parent.getParent()) {
            missing.add(parent);
        }
        // Milliseconds, as in all our files; Spark's default is INT96, which Parquet has deprecated.
        spark.conf().set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MILLIS");
        try {
            prepared.scores().write()
                    .option("compression", "zstd")
                    // Names are given when the whole job is committed; with 2 when a task is.
                    .option("mapreduce.fileoutputcommitter.algorithm.version", "1")
                    .parquet(out.toString());
            // Counted from what is stored: a reader would not notice that rows are missing.
            long written = spark.read().parquet(out.toString()).count();
            if (written != prepared.snapshot().rows()) {
                throw new IllegalStateException("scores " + out + ": " + written + " rows of " + prepared.snapshot().rows()
                        + "; all of it was deleted");
            }
        } catch (Exception error) {
            // Another job may have made it meanwhile: it is that one's.
            if (String.valueOf(error.getMessage()).contains("PATH_ALREADY_EXISTS")) {
                throw new BadInput("scores", out, "another job writes it; choose another path");
            }
            files.delete(out, true);
            for (org.apache.hadoop.fs.Path parent : missing) {
                if (files.exists(parent) && files.listStatus(parent).length == 0) {
                    files.delete(parent, false);
                }
            }
            throw SparkShards.faultOr(spark, prepared.snapshot(), snapshot, error);
        }
    }

    /** What a person must change; null where it is something else. It may come from a task. */
    private static BadInput badInput(Throwable error) {
        String text = "";
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof BadInput found) {
                return found;
            }
            text += cause.getMessage() + "\n";
        }
        // A task's own error may arrive as text alone.
        Matcher named = BAD_INPUT.matcher(text);
        return named.find() ? new BadInput(named.group(1)) : null;
    }

    private static String firstLine(Throwable error) {
        Throwable cause = error;
        while (cause.getCause() != null) {
            cause = cause.getCause();
        }
        return String.valueOf(cause.getMessage()).lines().findFirst().orElse(cause.toString());
    }

    /**
     * Scores of all customers of a snapshot: customer_id, as_of, and probabilities, an array of the same
     * length in every row. The metadata of that column has categories, classes and model_version.
     *
     * @throws BadInput where the model or the snapshot can't be used
     */
    public static Dataset<Row> scores(SparkSession spark, String model, String snapshot, EngineName engine)
            throws IOException {
        return prepared(spark, model, snapshot, engine).scores();
    }

    /**
     * As {@link #scores(SparkSession, String, String, EngineName)} with MXNet.
     *
     * @throws BadInput as it does
     */
    public static Dataset<Row> scores(SparkSession spark, String model, String snapshot) throws IOException {
        return scores(spark, model, snapshot, EngineName.MXNET);
    }

    /** @param snapshot that they are of */
    private record Prepared(Dataset<Row> scores, Snapshot snapshot) {}

    private static Prepared prepared(SparkSession spark, String model, String snapshot, EngineName engine)
            throws IOException {
        JavaSparkContext context = JavaSparkContext.fromSparkContext(spark.sparkContext());
        SerializableConfiguration settings = new SerializableConfiguration(context.hadoopConfiguration());
        Checked checked = checked(spark, model, engine);
        Artefact artefact = checked.artefact();
        Snapshot opened = open(context, settings, snapshot);
        artefact.requireFeaturesOf(opened);
        TrendTable trend = trend(opened, settings);
        if (trend != null) {
            ShippedModel with = checked.shipped().with(opened.trend().file().sha256(), context.broadcast(trend));
            checked = new Checked(artefact, with);
        }
        String[] shards = opened.shards().stream()
                .map(shard -> snapshot + "/" + shard.name())
                .toArray(String[]::new);
        if (shards.length == 0) {
            throw new BadInput(Snapshot.KIND, snapshot, "lists no shard; " + Manifest.again(Snapshot.KIND));
        }
        Dataset<Row> rows;
        long found;
        try {
            rows = spark.read().parquet(shards);
            found = rows.count(); // from the footers of the files
        } catch (Exception error) { // Spark throws checked exceptions that it does not declare
            throw SparkShards.faultOr(spark, opened, snapshot, error);
        }
        if (found != opened.rows()) {
            throw SparkShards.faultOr(spark, opened, snapshot, new BadInput(Snapshot.KIND, snapshot, "has " + found
                    + " rows, its manifest says " + opened.rows() + "; " + Manifest.again(Snapshot.KIND)));
        }
        // faultOr names the shard.
        Dataset<Row> scores = scored(rows, checked, Snapshot.KIND, "; " + Manifest.again(Snapshot.KIND));
        return new Prepared(scores, opened);
    }

    /** @param shipped the artefact on its way to the executors */
    record Checked(Artefact artefact, ShippedModel shipped) {}

    /**
     * The model in this directory, checked.
     *
     * @throws BadInput where it can't be used
     */
    static Checked checked(SparkSession spark, String model, EngineName engine) throws IOException {
        JavaSparkContext context = JavaSparkContext.fromSparkContext(spark.sparkContext());
        Map<String, byte[]> files =
                modelFiles(model, engine, new SerializableConfiguration(context.hadoopConfiguration()));
        Artefact artefact = ShippedModel.check(files, model, engine);
        return new Checked(
                artefact, new ShippedModel(artefact.version(), engine, context.broadcast(files), "", null));
    }

    /**
     * Scores of rows with a snapshot's columns.
     *
     * @param kind what they are called in errors
     * @param remedy what errors of a customer end with
     */
    static Dataset<Row> scored(Dataset<Row> rows, Checked model, String kind, String remedy) {
        ShippedModel shipped = model.shipped();
        MetadataBuilder about = new MetadataBuilder();
        model.artefact().described().forEach(about::putString);
        return SparkShards.customers(rows)
                .mapPartitions((MapPartitionsFunction<SparkShards.Customer, Scored>)
                                part -> new Scoring(shipped.loaded(), part, kind, remedy),
                        Encoders.bean(Scored.class))
                .select(col("id").as("customer_id"), expr("timestamp_millis(asOfMs)").as("as_of"),
                        col("probabilities").as("probabilities", about.build()));
    }

    /** The model's files by name, and that of the engine. */
    private static Map<String, byte[]> modelFiles(String model, EngineName engine, SerializableConfiguration settings)
            throws IOException {
        Map<String, byte[]> files = new HashMap<>();
        String manifest = model + "/" + Artefact.MANIFEST;
        byte[] content = read(manifest, settings);
        files.put(Artefact.MANIFEST, content);
        for (String name : Artefact.files(manifest, content)) {
            files.put(name, read(model + "/" + name, settings));
        }
        if (engine == EngineName.ONNX) {
            String file = model + "/" + OnnxFile.NAME;
            if (!exists(file, settings)) {
                throw OnnxFile.missing(file, model);
            }
            files.put(OnnxFile.NAME, read(file, settings));
        }
        return files;
    }

    /** A file of the model. */
    private static byte[] read(String file, SerializableConfiguration settings) throws IOException {
        try (InputStream stream = open(Artefact.KIND, file, settings)) {
            byte[] content = stream.readNBytes(MAX_FILE_BYTES + 1);
            InputFile.requireLength(Artefact.KIND, file, content.length, MAX_FILE_BYTES);
            return content;
        }
    }

    /** Reads the manifest, and has the executors compare every shard with it. */
    private static Snapshot open(JavaSparkContext context, SerializableConfiguration settings, String directory)
            throws IOException {
        String name = Snapshot.MANIFEST;
        if (!exists(directory + "/" + name, settings)) {
            name = Snapshot.OLD_MANIFEST;
            if (!exists(directory + "/" + name, settings)) {
                throw Snapshot.withoutManifest(directory);
            }
        }
        byte[] content;
        try (InputStream stream = open(Snapshot.KIND, directory + "/" + name, settings)) {
            content = stream.readAllBytes();
        }
        Snapshot snapshot = Snapshot.parse(directory, name, content);
        List<String> problems = context.parallelize(snapshot.shards(), Math.max(1, snapshot.shards().size()))
                .map(shard -> problem(directory + "/" + shard.name(), shard, settings))
                .filter(Objects::nonNull)
                .take(1);
        if (!problems.isEmpty()) {
            throw new BadInput(problems.get(0));
        }
        return snapshot;
    }

    /** The shop's trend that a snapshot has, checked; null where it has none. */
    private static TrendTable trend(Snapshot snapshot, SerializableConfiguration settings) throws IOException {
        if (snapshot.trend() == null) {
            return null;
        }
        String file = snapshot.directory() + "/" + Snapshot.TREND_FILE;
        String problem = problem(file, snapshot.trend().file(), settings);
        if (problem != null) {
            throw new BadInput(problem);
        }
        java.nio.file.Path copy = Files.createTempFile("stream-scorer-trend-", ".parquet");
        try (InputStream stream = open(Snapshot.KIND, file, settings)) {
            Files.copy(stream, copy, StandardCopyOption.REPLACE_EXISTING);
            return TrendFile.read(copy, file, snapshot.trend());
        } finally {
            Files.delete(copy);
        }
    }

    private static String problem(String file, Snapshot.Shard shard, SerializableConfiguration settings)
            throws IOException {
        try (InputStream stream = open(Snapshot.KIND, file, settings)) {
            shard.check(file, stream);
            return null;
        } catch (BadInput error) {
            return error.getMessage();
        }
    }

    private static boolean exists(String file, SerializableConfiguration settings) throws IOException {
        org.apache.hadoop.fs.Path path = new org.apache.hadoop.fs.Path(file);
        return path.getFileSystem(settings.value()).exists(path);
    }

    private static InputStream open(String kind, String file, SerializableConfiguration settings)
            throws IOException {
        org.apache.hadoop.fs.Path path = new org.apache.hadoop.fs.Path(file);
        FileSystem files = path.getFileSystem(settings.value());
        if (!files.exists(path)) {
            throw new BadInput(kind, file, "is missing; " + Manifest.again(kind));
        }
        // Of a local file system Hadoop takes a pipe for a file, and waits for it.
        java.nio.file.Path local = java.nio.file.Path.of(path.toUri().getPath());
        boolean isLocal = files.getScheme().equals("file");
        if (!files.getFileStatus(path).isFile() || isLocal && !Files.isRegularFile(local)) {
            throw new BadInput(kind, file, "is not a file; " + Manifest.again(kind));
        }
        return files.open(path);
    }

    /** One partition: a batch is scored when the first of its customers is asked for. */
    private static final class Scoring implements Iterator<Scored> {
        private final PropensityModel model;
        private final Iterator<SparkShards.Customer> customers;
        private final String kind;
        private final String remedy;
        private final VectorBuilder builder;
        private CustomerBatch batch;
        private Probabilities probabilities;
        private int row;

        Scoring(PropensityModel model, Iterator<SparkShards.Customer> customers, String kind, String remedy) {
            this.model = model;
            this.kind = kind;
            this.remedy = remedy;
            builder = new VectorBuilder(model.artefact().columns(), Main.BATCH_ROWS);
            this.customers = customers;
        }

        @Override
        public boolean hasNext() {
            return batch != null && row < batch.rows() || customers.hasNext();
        }

        @Override
        public Scored next() {
            if (!hasNext()) {
                throw new NoSuchElementException();
            }
            if (batch == null || row == batch.rows()) {
                while (!builder.isFull() && customers.hasNext()) {
                    String problem = SparkShards.add(customers.next(), builder);
                    if (problem != null) {
                        throw new BadInput(kind, "rows", problem + remedy);
                    }
                }
                batch = builder.take();
                probabilities = model.score(batch.vectors());
                row = 0;
            }
            Scored scored = new Scored();
            scored.setId(batch.customerIds()[row]);
            scored.setAsOfMs(batch.asOfMs()[row]);
            scored.setProbabilities(probabilities.ofCustomer(row++));
            return scored;
        }
    }
}
