package streamscorer.djl;

import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.expr;

import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.StringType;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.types.TimestampType;

/** A snapshot's customers as Spark reads them, and what is wrong with them. */
final class SparkShards {
    /**
     * A null inside an array is an error of Spark's own that names no customer, so both lists become null,
     * which is refused with the customer's id.
     */
    private static final String WITHOUT_NULLS =
            "if(exists(columns, c -> c is null) or exists(values, v -> v is null), null, %s)";

    private SparkShards() {}

    /** A customer as read: columns as in {@link SparseVectors}. */
    public static final class Customer {
        private String id;
        // Of bytes that are not UTF-8 Java would make another id.
        private boolean utf8;
        // Null in a row whose as_of is null, which a long would turn into 1970.
        private Long asOfMicros;
        private long[] columns;
        private float[] values;

        public String getId() {
            return id;
        }

        public void setId(String id) {
            this.id = id;
        }

        public boolean isUtf8() {
            return utf8;
        }

        public void setUtf8(boolean utf8) {
            this.utf8 = utf8;
        }

        public Long getAsOfMicros() {
            return asOfMicros;
        }

        public void setAsOfMicros(Long asOfMicros) {
            this.asOfMicros = asOfMicros;
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

    static Dataset<Customer> customers(Dataset<Row> rows) {
        // Spark 3.5 lacks that function, and does not refuse what it can't decode.
        String isUtf8 = rows.sparkSession().catalog().functionExists("is_valid_utf8")
                ? "is_valid_utf8(customer_id)"
                : "encode(decode(cast(customer_id as binary), 'UTF-8'), 'UTF-8') = cast(customer_id as binary)";
        return rows.select(col("customer_id").as("id"),
                        expr("coalesce(" + isUtf8 + ", true)").as("utf8"),
                        expr("unix_micros(as_of)").as("asOfMicros"),
                        expr(WITHOUT_NULLS.formatted("columns")).as("columns"),
                        expr(WITHOUT_NULLS.formatted("values")).as("values"))
                .as(Encoders.bean(Customer.class));
    }

    /**
     * What is wrong with the first shard that is not what the format promises, in the words of the other
     * programs; {@code error} where each is. A job that reads all shards at once can't say which of them its
     * row was in, so this is asked when one has failed.
     */
    static RuntimeException faultOr(SparkSession spark, Snapshot snapshot, String directory, Exception error) {
        for (Snapshot.Shard shard : snapshot.shards()) {
            String file = directory + "/" + shard.name();
            String problem = problem(spark, file, shard.rows(), snapshot.columns());
            if (problem != null) {
                return new BadInput(Snapshot.KIND, file, problem + "; " + Manifest.again(Snapshot.KIND));
            }
        }
        return error instanceof RuntimeException found ? found : new IllegalStateException(error);
    }

    private static String problem(SparkSession spark, String file, long rows, int columns) {
        try {
            Dataset<Row> frame = spark.read().parquet(file);
            String wrong = wrongColumn(frame.schema());
            if (wrong != null) {
                return wrong;
            }
            List<String> problems = customers(frame)
                    .mapPartitions((MapPartitionsFunction<Customer, String>) found -> problems(found, columns),
                            Encoders.STRING())
                    .takeAsList(1);
            if (!problems.isEmpty()) {
                return problems.get(0);
            }
            long count = frame.count();
            return count == rows ? null : "has " + count + " rows, its manifest says " + rows;
        } catch (Exception error) { // Spark throws checked exceptions that it does not declare
            return SnapshotReader.UNREADABLE;
        }
    }

    /** What is wrong with the first customer that is not right. */
    private static Iterator<String> problems(Iterator<Customer> customers, int columns) {
        while (customers.hasNext()) {
            VectorBuilder builder = new VectorBuilder(columns, 1);
            String problem = add(customers.next(), builder);
            if (problem != null) {
                return List.of(problem).iterator();
            }
        }
        return Collections.emptyIterator();
    }

    /** What is wrong with columns that are not those of a snapshot; null where nothing is. */
    static String wrongColumn(StructType schema) {
        for (int i = 0; i < SnapshotReader.COLUMNS.size(); i++) {
            String name = SnapshotReader.COLUMNS.get(i);
            List<StructField> named = Arrays.stream(schema.fields()).filter(f -> f.name().equals(name)).toList();
            if (named.size() != 1) {
                return "has no column " + name + ", or two";
            }
            DataType kind = named.get(0).dataType();
            String element = kind instanceof ArrayType list ? list.elementType().typeName() : "";
            boolean fits = switch (i) {
                case 0 -> kind instanceof StringType;
                case 1 -> kind instanceof TimestampType;
                case 2 -> List.of("byte", "short", "integer", "long").contains(element);
                default -> element.equals("float");
            };
            if (!fits) {
                return "its column " + name + " is not " + SnapshotReader.KINDS.get(i);
            }
        }
        return null;
    }

    /** Adds a customer; what is wrong with it, null where nothing is. */
    static String add(Customer customer, VectorBuilder builder) {
        long[] columns = customer.getColumns();
        float[] values = customer.getValues();
        if (customer.getId() == null || customer.getAsOfMicros() == null || columns == null || values == null) {
            return "has nulls";
        }
        if (!customer.isUtf8()) {
            return "a customer_id is not UTF-8";
        }
        if (customer.getId().isEmpty()) {
            return "a customer_id is empty";
        }
        if (customer.getAsOfMicros() % 1000 != 0) {
            return "as_of is not in whole milliseconds";
        }
        if (columns.length != values.length) {
            return "columns and values differ in length";
        }
        try {
            for (int i = 0; i < columns.length; i++) {
                builder.entry(columns[i], values[i]);
            }
        } catch (IllegalArgumentException error) {
            return error.getMessage();
        }
        builder.endRow(customer.getId(), customer.getAsOfMicros() / 1000);
        return null;
    }
}
