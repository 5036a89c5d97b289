package streamscorer.djl;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.translate.TranslatorContext;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.List;

/**
 * For ONNX Runtime, which multiplies no sparse matrices: the entries of each customer, {@code columns} and
 * {@code values} (B, E), E being those of the customer who has most. Shorter rows are filled up with column
 * 0 and value 0, which adds nothing.
 */
final class OnnxTranslator implements ScoringTranslator {
    private static final List<String> ENTRIES = List.of("columns", "values");
    private static final List<String> TREND = List.of("trend", "trend_first_day");

    /** Entries, filled up ones among them, that are scored at once: weights are gathered for each. */
    private static final int MOST_ENTRIES = 1 << 18;

    private final Artefact artefact;
    private NDArray table;
    private NDArray firstDay;

    OnnxTranslator(Artefact artefact) {
        this.artefact = artefact;
    }

    @Override
    public Artefact artefact() {
        return artefact;
    }

    @Override
    public List<String> inputs() {
        List<String> inputs = new ArrayList<>(ENTRIES);
        if (artefact.hasTrend()) {
            inputs.addAll(TREND);
        }
        return inputs;
    }

    @Override
    public void useTrend(TrendTable trend, NDManager engine) {
        if (table != null) {
            table.close();
            firstDay.close();
        }
        table = engine.create(trend.contrasts(), new Shape(trend.days(), trend.width()));
        firstDay = engine.create(new float[] {trend.firstDay()}, new Shape(1));
        table.setName(TREND.get(0));
        firstDay.setName(TREND.get(1));
    }

    @Override
    public int rowsAtOnce(SparseVectors vectors, int start) {
        int longest = 1;
        int row = start;
        for (; row < vectors.rows(); row++) {
            longest = Math.max(longest, vectors.entries(row));
            if (row > start && (long) longest * (row + 1 - start) > MOST_ENTRIES) {
                break;
            }
        }
        return row - start;
    }

    @Override
    public NDList processInput(TranslatorContext context, SparseVectors vectors) {
        vectors.requireBelow(artefact.columns());
        int rows = vectors.rows();
        int longest = 1;
        for (int row = 0; row < rows; row++) {
            longest = Math.max(longest, vectors.entries(row));
        }
        long[] columns = new long[rows * longest];
        float[] values = new float[rows * longest];
        for (int row = 0; row < rows; row++) {
            int from = (int) vectors.indptr()[row];
            System.arraycopy(vectors.columns(), from, columns, row * longest, vectors.entries(row));
            System.arraycopy(vectors.values(), from, values, row * longest, vectors.entries(row));
        }
        NDManager manager = context.getNDManager();
        Shape shape = new Shape(rows, longest);
        NDArray column = manager.create(LongBuffer.wrap(columns), shape, DataType.INT64);
        NDArray value = manager.create(FloatBuffer.wrap(values), shape, DataType.FLOAT32);
        column.setName(ENTRIES.get(0));
        value.setName(ENTRIES.get(1));
        return table == null ? new NDList(column, value) : new NDList(column, value, table, firstDay);
    }
}
