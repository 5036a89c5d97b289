package streamscorer.djl;

import java.util.List;
import java.util.Objects;

/**
 * Probabilities of B customers: of each of C classes in each of N categories.
 *
 * @param categories the N names
 * @param classes C; class 0 is "does nothing", the last the best action
 * @param values B * N * C, customer by customer, category by category
 */
public record Probabilities(List<String> categories, int classes, float[] values) {

    /** B. */
    public int rows() {
        return values.length / (categories.size() * classes);
    }

    /**
     * The probability that a customer's class in a category is this one.
     *
     * @throws IndexOutOfBoundsException where there is no such row, category or class; the index of an
     *     unknown category is -1
     */
    public float of(int row, int category, int whichClass) {
        Objects.checkIndex(row, rows());
        Objects.checkIndex(category, categories.size());
        Objects.checkIndex(whichClass, classes);
        return values[(row * categories.size() + category) * classes + whichClass];
    }

    /** How many numbers a score file has for a customer: N where C is 2, else N * C. */
    public int width() {
        return categories.size() * (classes == 2 ? 1 : classes);
    }

    /**
     * What a score file has for one customer: of two classes the second one's probabilities (N),
     * of more all (N * C).
     *
     * @throws IndexOutOfBoundsException where there is no such row
     */
    public float[] ofCustomer(int row) {
        Objects.checkIndex(row, rows());
        int width = width();
        float[] found = new float[width];
        if (classes == 2) {
            for (int n = 0; n < width; n++) {
                found[n] = values[2 * (row * width + n) + 1];
            }
        } else {
            System.arraycopy(values, row * width, found, 0, width);
        }
        return found;
    }
}
