package streamscorer.djl;

import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * A few rows and the scores that they had where the model was trained. Right checksums say that the files are
 * those that were written; this says that they mean the same here: with this engine, these libraries, this
 * machine. stream_scorer/model/golden_batch.py describes the file.
 *
 * @param vectors of the R rows
 * @param scores R * N * C
 * @param trend of the rows' days; null of a model without one
 */
record GoldenBatch(SparseVectors vectors, float[] scores, TrendTable trend) {
    static final String FILE = "golden-batch.params";

    /** Of a probability: so closely do the engines agree with each other. */
    static final float TOLERANCE = 1e-5f;

    private static final long MOST_ROWS = 64;
    private static final long MOST = 500_000; // scores, entries, or contrasts
    private static final List<String> NAMES = List.of("indptr", "columns", "values", "scores");
    private static final List<String> WITH_TREND =
            List.of("indptr", "columns", "values", "scores", "trend", "trend_first_day");
    private static final String OTHER = "its arrays are not rows and scores of this model";

    /** More than the file of such a model can have. */
    static long mostBytes(Network network) {
        long scoresPerRow = (long) network.categories() * network.classes();
        long rows = Math.min(MOST_ROWS, Math.max(1, MOST / scoresPerRow));
        long contrasts = network.contrasts() == 0 ? 0 : Math.max(MOST, network.trendWidth());
        return ParamsFile.mostBytes(Map.of(
                "ends", new long[] {rows, scoresPerRow + 1},
                "entries", new long[] {2, Math.max(MOST, network.columns())},
                "trend", new long[] {1, contrasts + 1}));
    }

    /**
     * What Python wrote for a model of this network.
     *
     * @throws ParamsFile.Wrong where it is something else
     */
    static GoldenBatch read(byte[] content, Network network) {
        Map<String, ParamsFile.Values> arrays = ParamsFile.read(content);
        boolean hasTrend = network.contrasts() > 0;
        require(List.copyOf(arrays.keySet()).equals(hasTrend ? WITH_TREND : NAMES), OTHER);
        float[] ends = arrays.get("indptr").numbers();
        long[] shape = {ends.length - 1, network.categories(), network.classes()};
        require(Arrays.equals(arrays.get("scores").shape(), shape), OTHER);
        for (ParamsFile.Values array : arrays.values()) {
            for (float number : array.numbers()) {
                require(Float.isFinite(number), OTHER);
            }
        }
        SparseVectors vectors;
        try {
            vectors = new SparseVectors(
                    whole(ends), whole(arrays.get("columns").numbers()), arrays.get("values").numbers());
            vectors.requireBelow(network.columns());
        } catch (IllegalArgumentException error) {
            throw new ParamsFile.Wrong(OTHER);
        }
        return new GoldenBatch(vectors, arrays.get("scores").numbers(), hasTrend ? trend(arrays, network) : null);
    }

    private static TrendTable trend(Map<String, ParamsFile.Values> arrays, Network network) {
        long[] shape = arrays.get("trend").shape();
        long[] firstDay = whole(arrays.get("trend_first_day").numbers());
        boolean fits = shape.length == 3 && shape[1] == network.contrasts() && shape[2] == network.vocabulary()
                && firstDay.length == 1 && firstDay[0] == (int) firstDay[0];
        require(fits, "its trend is not one of this model");
        return new TrendTable((int) firstDay[0], network.trendWidth(), arrays.get("trend").numbers());
    }

    /** Whole numbers, which a float holds exactly up to 2^24. */
    private static long[] whole(float[] numbers) {
        long[] found = new long[numbers.length];
        for (int i = 0; i < numbers.length; i++) {
            found[i] = (long) numbers[i];
            require(found[i] == numbers[i], OTHER);
        }
        return found;
    }

    private static void require(boolean right, String problem) {
        if (!right) {
            throw new ParamsFile.Wrong(problem);
        }
    }
}
