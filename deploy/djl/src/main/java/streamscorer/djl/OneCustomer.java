package streamscorer.djl;

import scala.collection.Seq;

/** The vector of one customer, as a function for SQL gets it. */
final class OneCustomer {
    private OneCustomer() {}

    /**
     * Its vector; the model checks its number of columns.
     *
     * @param columns whole numbers
     * @param values floats
     * @throws BadInput where there are nulls or other types, the lengths differ, columns do not ascend or a value is
     *     not finite
     */
    static SparseVectors vector(Seq<?> columns, Seq<?> values, String kind, String remedy) {
        if (columns.length() != values.length()) {
            throw new BadInput(kind, columns.length() + " columns, " + values.length() + " values",
                    "columns and values differ in length" + remedy);
        }
        long[] own = new long[columns.length()];
        float[] floats = new float[own.length];
        for (int i = 0; i < own.length; i++) {
            Object column = columns.apply(i);
            Object value = values.apply(i);
            if (column == null || value == null) {
                throw new BadInput(kind, "entry " + i, "has nulls" + remedy);
            }
            if (!(column instanceof Byte || column instanceof Short || column instanceof Integer || column instanceof Long)) {
                throw new BadInput(kind, column, "its column columns is not " + SnapshotReader.KINDS.get(2) + remedy);
            }
            if (!(value instanceof Float)) {
                throw new BadInput(kind, value, "its column values is not " + SnapshotReader.KINDS.get(3) + remedy);
            }
            own[i] = ((Number) column).longValue();
            floats[i] = (Float) value;
        }
        try {
            return SparseVectors.of(own, floats);
        } catch (IllegalArgumentException error) {
            throw new BadInput(kind, own.length + " entries", error.getMessage() + remedy);
        }
    }
}
