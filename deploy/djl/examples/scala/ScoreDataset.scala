// Scores the customers of a DataFrame and shows the best categories of each:
//   spark-submit --class ScoreDataset --jars stream-scorer-djl-0.1.0-spark.jar score-dataset.jar MODEL CUSTOMERS OUT
// CUSTOMERS: Parquet with customer_id, as_of, columns and values, such as the shards of a snapshot. It
// compiles with Scala 2.12 on Spark 3.5 and with Scala 2.13 on Spark 4. In spark-shell the lines between the
// braces of `main` do the same.
import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.functions.{col, explode}
import streamscorer.djl.{DatasetScores, EngineName}

object ScoreDataset {
  def main(arguments: Array[String]): Unit = {
    val Array(model, customers, out) = arguments
    val spark = SparkSession.builder().appName("score a DataFrame").getOrCreate()
    val frame = spark.read.parquet(customers)

    // All of them, in batches on the executors; each loads the model once.
    val scores = DatasetScores.scores(frame, model, EngineName.ONNX)
    scores.write.parquet(out)

    // The three most probable actions of each.
    val best = DatasetScores.topK(scores, 3)
    best.select(col("customer_id"), explode(col("best")).as("best"))
      .select("customer_id", "best.category", "best.class", "best.probability")
      .orderBy(col("customer_id"), col("probability").desc)
      .show(6, truncate = false)

    // One vector at a time, where it stands in a query.
    spark.udf.register("propensities", DatasetScores.function(spark, model, EngineName.ONNX))
    frame.createOrReplaceTempView("customers")
    spark.sql("SELECT customer_id, propensities(columns, values)[0] AS first FROM customers ORDER BY customer_id LIMIT 2")
      .show(truncate = false)
    println(s"scored ${spark.read.parquet(out).count()} customers on Spark ${spark.version}, Scala ${util.Properties.versionNumberString}")
    spark.stop()
  }
}
