package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import scala.jdk.javaapi.CollectionConverters;

final class OneCustomerTest {
    private static SparseVectors vector(List<?> columns, List<?> values) {
        return OneCustomer.vector(CollectionConverters.asScala(columns), CollectionConverters.asScala(values), "dataset", "; fix it");
    }

    private static void refused(String said, List<?> columns, List<?> values) {
        BadInput error = assertThrows(BadInput.class, () -> vector(columns, values));
        assertEquals("dataset: " + said + "; fix it", error.getMessage());
    }

    @Test
    void wholeNumbersOfAnyWidthAreColumns() {
        SparseVectors found = vector(List.of(3, 5L, (short) 9), List.of(1.5f, 2f, 0f));
        assertArrayEquals(new long[] {3, 5, 9}, found.columns());
        assertArrayEquals(new float[] {1.5f, 2, 0}, found.values());
    }

    @Test
    void whatIsNoVectorIsOneLine() {
        refused("'entry 1': has nulls", Arrays.asList(3, null), List.of(1f, 2f));
        refused("'entry 0': has nulls", List.of(3), Arrays.asList((Float) null));
        refused("'2 columns, 1 values': columns and values differ in length", List.of(3, 5), List.of(1f));
        refused("'2 entries': columns do not ascend", List.of(5, 3), List.of(1f, 2f));
        refused("'1 entries': a value of column 3 is not a finite number", List.of(3), List.of(Float.NaN));
        refused("'2.0': its column values is not " + SnapshotReader.KINDS.get(3), List.of(3), List.of(2.0));
        refused("'3.0': its column columns is not " + SnapshotReader.KINDS.get(2), List.of(3.0), List.of(2f));
    }
}
