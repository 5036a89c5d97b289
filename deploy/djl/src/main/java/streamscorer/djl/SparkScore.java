package streamscorer.djl;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.expr;

import java.io.IOException;
import java.io.InputStream;
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
 * stream-scorer-djl.jar MODEL SNAPSHOT --out DIRECTORY}; each may be any path that Hadoop reads.
 *
 * <p>The model's files are broadcast; each executor loads them once for all its tasks. Each task reads
 * its part of the shards, gathers {@link Main#BATCH_ROWS} customers, scores them, and hands them on.
 * Before that, every shard is compared with its SHA-256, a task for each.
 */
public final class SparkScore {
    /**
     * A null inside an array is an error of Spark's own that names no customer, so both lists become null,
     * which is refused with the customer's id.
     */
    private static final String WITHOUT_NULLS =
            "if(exists(columns, c -> c is null) or exists(values, v -> v is null), null, %s)";

    private static final Pattern BAD_INPUT = Pattern.compile("BadInput: (.+)");

    private SparkScore() {}

    /** A customer as read: columns as in {@link SparseVectors}. */
    public static final class Customer {
        private String id;
        // Null in a row whose as_of is null, which a long would turn into 1970.
        private Long asOfMs;
        private long[] columns;
        private float[] values;

        public String getId() {
            return id;
        }

        public void setId(String id) {
            this.id = id;
        }

        public Long getAsOfMs() {
            return asOfMs;
        }

        public void setAsOfMs(Long asOfMs) {
            this.asOfMs = asOfMs;
        }

        public long[] getColumns() {
            return columns;
        }

        public void setColumns(long[] columns) {
            this.columns = columns;
        }

        public float[] getValues() {
            return values;
        }

        public void setValues(float[] values) {
            this.values = values;
        }
    }

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
            if (arguments.length != 4 || !arguments[2].equals("--out")) {
                throw new BadInput("arguments", String.join(" ", arguments), "give MODEL SNAPSHOT --out DIRECTORY");
            }
            // What goes wrong is reported in one line below; Spark's own account of a task that failed has
            // hundreds. --conf spark.log.level=ERROR shows it.
            if (!spark.sparkContext().getConf().contains("spark.log.level")) {
                spark.sparkContext().setLogLevel("OFF");
            }
            org.apache.hadoop.fs.Path out = new org.apache.hadoop.fs.Path(arguments[3]);
            if (out.getFileSystem(spark.sparkContext().hadoopConfiguration()).exists(out)) {
                throw new BadInput("scores", out, "already exists; choose another path or delete it");
            }
            write(spark, arguments[0], arguments[1], out);
            return 0;
        } catch (Exception error) { // Spark throws checked exceptions that it does not declare
            BadInput badInput = badInput(error);
            System.err.println("stream-scorer: " + (badInput == null ? firstLine(error) : badInput.getMessage()));
            return badInput == null ? 1 : 2;
        }
    }

    /** Writes the scores; where that fails nothing is left of them. */
    private static void write(SparkSession spark, String model, String snapshot, org.apache.hadoop.fs.Path out)
            throws Exception {
        Prepared prepared = prepared(spark, model, snapshot);
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
            if (written != prepared.rows()) {
                throw new IllegalStateException("scores " + out + ": " + written + " rows of " + prepared.rows()
                        + "; all of it was deleted");
            }
        } catch (Exception error) {
            // Another job may have made it meanwhile: it is that one's.
            if (!String.valueOf(error.getMessage()).contains("PATH_ALREADY_EXISTS")) {
                out.getFileSystem(spark.sparkContext().hadoopConfiguration()).delete(out, true);
            }
            throw error;
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
    public static Dataset<Row> scores(SparkSession spark, String model, String snapshot) throws IOException {
        return prepared(spark, model, snapshot).scores();
    }

    /** @param rows how many customers the snapshot has */
    private record Prepared(Dataset<Row> scores, long rows) {}

    private static Prepared prepared(SparkSession spark, String model, String snapshot) throws IOException {
        JavaSparkContext context = JavaSparkContext.fromSparkContext(spark.sparkContext());
        SerializableConfiguration settings = new SerializableConfiguration(context.hadoopConfiguration());
        Map<String, byte[]> modelFiles = new HashMap<>();
        for (String name : Artefact.FILES) {
            try (InputStream stream = open(Artefact.KIND, model + "/" + name, settings)) {
                modelFiles.put(name, stream.readAllBytes());
            }
        }
        Artefact artefact = ShippedModel.check(modelFiles, model);
        Snapshot opened = open(context, settings, snapshot);
        artefact.requireFeaturesOf(opened);
        ShippedModel shipped = new ShippedModel(artefact.version(), context.broadcast(modelFiles));
        MetadataBuilder about = new MetadataBuilder();
        artefact.described().forEach(about::putString);
        String[] shards = opened.shards().stream()
                .map(shard -> snapshot + "/" + shard.name())
                .toArray(String[]::new);
        // Spark counts from the footers of the files.
        long found = shards.length == 0 ? 0 : spark.read().parquet(shards).count();
        if (found != opened.rows()) {
            throw new BadInput(Snapshot.KIND, snapshot, "has " + found + " rows, its manifest says " + opened.rows()
                    + "; " + Manifest.again(Snapshot.KIND));
        }
        Dataset<Row> scores = spark.read().parquet(shards)
                .select(col("customer_id").as("id"), expr("unix_millis(as_of)").as("asOfMs"),
                        expr(WITHOUT_NULLS.formatted("columns")).as("columns"),
                        expr(WITHOUT_NULLS.formatted("values")).as("values"))
                .as(Encoders.bean(Customer.class))
                .mapPartitions((MapPartitionsFunction<Customer, Scored>) rows -> new Scoring(shipped.loaded(), rows),
                        Encoders.bean(Scored.class))
                .select(col("id").as("customer_id"), expr("timestamp_millis(asOfMs)").as("as_of"),
                        col("probabilities").as("probabilities", about.build()));
        return new Prepared(scores, opened.rows());
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
        return files.open(path);
    }

    /** One partition: a batch is scored when the first of its customers is asked for. */
    private static final class Scoring implements Iterator<Scored> {
        private final PropensityModel model;
        private final Iterator<Customer> customers;
        private final VectorBuilder builder;
        private CustomerBatch batch;
        private Probabilities probabilities;
        private int row;

        Scoring(PropensityModel model, Iterator<Customer> customers) {
            this.model = model;
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
                    add(customers.next());
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

        private void add(Customer customer) {
            long[] columns = customer.getColumns();
            float[] values = customer.getValues();
            if (customer.getId() == null || customer.getAsOfMs() == null || columns == null || values == null) {
                throw unfit(customer, "has nulls");
            }
            if (columns.length != values.length) {
                throw unfit(customer, "columns and values differ in length");
            }
            try {
                for (int i = 0; i < columns.length; i++) {
                    builder.entry(columns[i], values[i]);
                }
            } catch (IllegalArgumentException error) {
                throw unfit(customer, error.getMessage());
            }
            builder.endRow(customer.getId(), customer.getAsOfMs());
        }

        private static BadInput unfit(Customer customer, String why) {
            return new BadInput("customer", customer.getId(), why + "; " + Manifest.again(Snapshot.KIND));
        }
    }
}
