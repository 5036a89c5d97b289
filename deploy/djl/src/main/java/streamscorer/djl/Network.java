package streamscorer.djl;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Which network a manifest has: where its inputs stand among the F columns, what it answers, and the shape
 * of each parameter. stream_scorer/model/spec.py says what they are (Layout and NetworkSpec).
 *
 * @param columns F
 * @param vocabulary entries of the label field's vocabulary
 * @param categoryIndex the N categories as indices into it
 * @param classes C
 * @param own ranges in which column i belongs to vocabulary entry i
 * @param customer ranges of customer-wide columns, adjoining ones merged
 * @param trend the column that holds the day of the as-of moment; -1 where no trend is declared
 * @param contrasts G: what the trend table has for each day and vocabulary entry; 0 without a trend
 * @param hidden sizes of the deep path
 * @param ownPath whether a category has weights for its own columns
 * @param pooled sizes of the network that categories share
 * @param pairs for which pairs of a customer and a category the own and the pooled path are computed
 * @param tower units of the context that meet an embedding of the category; 0 where there are none
 * @param linearRank of the linear path from all columns to all outputs; 0 where there is none
 */
record Network(
        int columns,
        int vocabulary,
        List<Integer> categoryIndex,
        int classes,
        List<FeatureColumns.Range> own,
        List<FeatureColumns.Range> customer,
        int trend,
        int contrasts,
        List<Integer> hidden,
        boolean ownPath,
        List<Integer> pooled,
        Pairs pairs,
        int tower,
        int linearRank) {
    /** All pairs, or those with a value in one of the category's own columns. */
    enum Pairs { ALL, HISTORY }

    private static final Map<String, Pairs> PAIRS = Map.of("all", Pairs.ALL, "history", Pairs.HISTORY);
    private static final int MAX_LAYERS = 100;
    private static final int MOST_UNITS = 4_096;

    /** {@code hidden} or {@code pooled} of a manifest's {@code network}; null where it is not one. */
    static List<Integer> sizes(JsonObject network, String name) {
        JsonElement given = network.get(name);
        if (given == null || !given.isJsonArray() || given.getAsJsonArray().size() > MAX_LAYERS) {
            return null;
        }
        List<Integer> sizes = new ArrayList<>();
        for (JsonElement size : given.getAsJsonArray()) {
            if (!Json.isWhole(size) || size.getAsLong() < 1 || size.getAsLong() > Integer.MAX_VALUE) {
                return null;
            }
            sizes.add((int) size.getAsLong());
        }
        return sizes;
    }

    /** {@code pairs} of a manifest's {@code network}; null where it is not one. */
    static Pairs pairs(JsonObject network) {
        JsonElement given = network.get("pairs");
        return PAIRS.get(Json.isText(given) ? given.getAsString() : "");
    }

    /** {@code tower} or {@code linear_rank} of a manifest's {@code network}; -1 where it is not one. */
    static int units(JsonObject network, String name) {
        JsonElement given = network.get(name);
        boolean right = Json.isWhole(given) && given.getAsLong() >= 0 && given.getAsLong() <= MOST_UNITS;
        return right ? (int) given.getAsLong() : -1;
    }

    int categories() {
        return categoryIndex.size();
    }

    /** M: logits for each category. */
    int actions() {
        return classes - 1;
    }

    boolean wholeVocabulary() {
        for (int i = 0; i < categories(); i++) {
            if (categoryIndex.get(i) != i) {
                return false;
            }
        }
        return categories() == vocabulary;
    }

    int customerColumns() {
        return customer.stream().mapToInt(range -> range.stop() - range.start()).sum();
    }

    /** X: the customer-wide columns and the last hidden layer. */
    int contextWidth() {
        return customerColumns() + (hidden.isEmpty() ? 0 : hidden.get(hidden.size() - 1));
    }

    /** How many numbers the shop's trend has for a day: G times V. */
    int trendWidth() {
        return Math.multiplyExact(contrasts, vocabulary);
    }

    /** The shape of each parameter by name. */
    Map<String, long[]> shapes() {
        long n = categories();
        long m = actions();
        long k = own.size();
        long x = contextWidth();
        Map<String, long[]> shapes = new LinkedHashMap<>();
        for (int i = 0; i < hidden.size(); i++) {
            long size = hidden.get(i);
            if (i == 0) {
                shapes.put("input_weight", new long[] {columns, size});
                shapes.put("input_bias", new long[] {1, size});
            } else {
                shapes.put("hidden" + i + "_weight", new long[] {size, hidden.get(i - 1)});
                shapes.put("hidden" + i + "_bias", new long[] {size});
            }
        }
        if (!customer.isEmpty()) {
            shapes.put("customer_mean", new long[] {1, customerColumns()});
            shapes.put("customer_scale", new long[] {1, customerColumns()});
        }
        shapes.put("head_weight", new long[] {n * m, x});
        shapes.put("head_bias", new long[] {n * m});
        boolean ofCategories = !own.isEmpty() && (ownPath || !pooled.isEmpty());
        if ((ofCategories || contrasts > 0) && !wholeVocabulary()) {
            shapes.put("category_index", new long[] {n});
        }
        if (ofCategories && ownPath) {
            shapes.put("own_weight", new long[] {n, k, m});
        }
        if (ofCategories && !pooled.isEmpty()) {
            putPooled(shapes, n, m, k, x);
        }
        if (contrasts > 0) {
            shapes.put("trend_weight", new long[] {contrasts, m});
        }
        if (linearRank > 0) {
            shapes.put("linear_weight", new long[] {columns, linearRank});
            shapes.put("linear_out_weight", new long[] {n * m, linearRank});
        }
        shapes.put("calibration_scale", new long[] {1, n, 1});
        shapes.put("calibration_shift", new long[] {1, n, m});
        return shapes;
    }

    /** Of the pooled path, and of the tower, which shares its embedding of the category. */
    private void putPooled(Map<String, long[]> shapes, long n, long m, long k, long x) {
        long first = pooled.get(0);
        shapes.put("pooled_own_weight", new long[] {first, k + contrasts});
        shapes.put("pooled_context_weight", new long[] {1, first, x});
        shapes.put("pooled_category_bias", new long[] {n * first});
        for (int i = 1; i < pooled.size(); i++) {
            shapes.put("pooled" + i + "_weight", new long[] {pooled.get(i), pooled.get(i - 1)});
            shapes.put("pooled" + i + "_bias", new long[] {pooled.get(i)});
        }
        shapes.put("pooled_out_weight", new long[] {m, pooled.get(pooled.size() - 1)});
        if (pairs == Pairs.HISTORY) {
            shapes.put("pooled_out_bias", new long[] {m});
        }
        if (tower > 0) {
            shapes.put("tower_weight", new long[] {tower, x});
            shapes.put("tower_bias", new long[] {tower});
            shapes.put("tower_category_weight", new long[] {m * tower, first});
        }
    }
}
