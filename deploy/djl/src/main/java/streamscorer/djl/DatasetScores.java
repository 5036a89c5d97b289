package streamscorer.djl;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.udf;

import com.google.gson.Gson;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.api.java.UDF1;
import org.apache.spark.sql.api.java.UDF2;
import org.apache.spark.sql.expressions.UserDefinedFunction;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.Metadata;
import org.apache.spark.sql.types.StructField;
import scala.collection.Seq;

/**
 * Scores of customers in a Dataset, for Scala, Java and spark-shell:
 *
 * <pre>{@code
 * val scores = DatasetScores.scores(customers, "models/2026-11-24", EngineName.ONNX)
 * DatasetScores.topK(scores, 10).show()
 * }</pre>
 *
 * <p>Customers come as in a snapshot's shards: customer_id, a string; as_of, a timestamp; columns, an array
 * of whole numbers that ascend; values, an array of as many floats.
 *
 * <p>A model that was trained with the shop's trend needs that of its days, which a Dataset does not have:
 * {@link SparkScore#scores(SparkSession, String, String, EngineName)} takes the snapshot's.
 */
public final class DatasetScores {
    private static final String KIND = "dataset";
    private static final String REMEDY = "; give customer_id, as_of, columns and values as a snapshot has them";
    private static final DataType BEST = DataTypes.createArrayType(
            DataTypes.createStructType(List.of(
                    DataTypes.createStructField("category", DataTypes.StringType, false),
                    DataTypes.createStructField("class", DataTypes.IntegerType, false),
                    DataTypes.createStructField("probability", DataTypes.FloatType, false))),
            false);

    private DatasetScores() {}

    /**
     * Scores of all customers: customer_id, as_of, and probabilities, an array of the same length in every
     * row. The metadata of that column has categories, classes and model_version.
     *
     * @param model the artefact's directory, any path that Hadoop reads
     * @throws BadInput where the model can't be used, or the Dataset has other columns. A customer that
     *     can't be scored fails the action that asks for the scores, with BadInput as the cause
     */
    public static Dataset<Row> scores(Dataset<Row> customers, String model, EngineName engine) throws IOException {
        String wrong = SparkShards.wrongColumn(customers.schema());
        if (wrong != null) {
            throw new BadInput(KIND, String.join(", ", customers.columns()), wrong + REMEDY);
        }
        return SparkScore.scored(customers, checked(customers.sparkSession(), model, engine), KIND, REMEDY);
    }

    /**
     * The most probable actions of each customer: customer_id, as_of, model_version, and best, an array of at
     * most k structs of category, class and probability, the most probable first. Equal ones keep the order
     * of categories, as in Python.
     *
     * @param scores what {@link #scores} returned, or what a directory of scores has
     * @throws BadInput where k is below 1, or the column probabilities says nothing of categories
     */
    public static Dataset<Row> topK(Dataset<Row> scores, int k) {
        if (k < 1) {
            throw new BadInput("k", k, "give 1 or more");
        }
        Metadata about = Metadata.empty();
        for (StructField field : scores.schema().fields()) {
            about = field.name().equals("probabilities") ? field.metadata() : about;
        }
        if (!about.contains("categories") || !about.contains("classes")) {
            throw new BadInput("scores", String.join(", ", scores.columns()),
                    "has no column probabilities with categories in its metadata; give what scores() returned");
        }
        List<String> categories = List.of(new Gson().fromJson(about.getString("categories"), String[].class));
        int classes = Integer.parseInt(about.getString("classes"));
        UserDefinedFunction best = udf((UDF1<Seq<Float>, Row[]>) found -> best(found, categories, classes, k), BEST);
        return scores.select(col("customer_id"), col("as_of"),
                org.apache.spark.sql.functions.lit(about.getString("model_version")).as("model_version"),
                best.apply(col("probabilities")).as("best"));
    }

    /**
     * A function of the columns and values of one customer, which returns the probabilities as {@link #scores}
     * does: {@code spark.udf.register("propensities", DatasetScores.function(spark, model, EngineName.ONNX))}.
     * Each call is a batch of one; {@link #scores} takes {@link Main#BATCH_ROWS} at a time. Of a null it makes a null.
     *
     * @throws BadInput where the model can't be used. A vector that can't be scored fails the action that asks
     *     for it, with BadInput as the cause
     */
    public static UserDefinedFunction function(SparkSession spark, String model, EngineName engine) throws IOException {
        ShippedModel shipped = checked(spark, model, engine).shipped();
        UDF2<Seq<Object>, Seq<Object>, float[]> one = (columns, values) -> {
            if (columns == null || values == null) {
                return null; // as SQL's own functions do
            }
            SparseVectors vector = OneCustomer.vector(columns, values, KIND, REMEDY);
            PropensityModel loaded = shipped.loaded();
            try {
                return loaded.score(vector).ofCustomer(0);
            } catch (IllegalArgumentException error) { // a column that the model has not
                throw new BadInput(KIND, vector.columns().length + " entries", error.getMessage() + REMEDY);
            }
        };
        return udf(one, DataTypes.createArrayType(DataTypes.FloatType, false));
    }

    private static SparkScore.Checked checked(SparkSession spark, String model, EngineName engine) throws IOException {
        SparkScore.Checked checked = SparkScore.checked(spark, model, engine);
        if (checked.artefact().hasTrend()) {
            throw new BadInput(Artefact.KIND, model, "was trained with the shop's trend, which a Dataset does not have;"
                    + " score a snapshot by SparkScore.scores");
        }
        return checked;
    }

    private static Row[] best(Seq<Float> found, List<String> categories, int classes, int k) {
        // Of two classes there is one number for each category, else one for each class, the first "nothing".
        int stride = classes == 2 ? 1 : classes;
        List<Integer> at = new ArrayList<>();
        for (int i = 0; i < found.length(); i++) {
            if (stride == 1 || i % stride > 0) {
                at.add(i);
            }
        }
        at.sort(Comparator.comparing((Integer i) -> found.apply(i)).reversed()); // stable
        return at.stream()
                .limit(k)
                .map(i -> RowFactory.create(categories.get(i / stride), stride == 1 ? 1 : i % stride, found.apply(i)))
                .toArray(Row[]::new);
    }
}
