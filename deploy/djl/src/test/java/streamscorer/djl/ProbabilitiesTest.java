package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;

class ProbabilitiesTest {
    @Test
    void ofTwoClassesTheSecondIsKept() {
        Probabilities found = new Probabilities(
                List.of("soup", "milk"), 2, new float[] {.9f, .1f, .8f, .2f, .7f, .3f, .6f, .4f});
        assertEquals(2, found.rows());
        assertEquals(.3f, found.of(1, 0, 1));
        assertArrayEquals(new float[] {.1f, .2f}, found.ofCustomer(0));
        assertArrayEquals(new float[] {.3f, .4f}, found.ofCustomer(1));
    }

    @Test
    void ofMoreClassesAllAreKept() {
        float[] values = {.5f, .3f, .2f, .6f, .3f, .1f};
        assertArrayEquals(values, new Probabilities(List.of("soup", "milk"), 3, values).ofCustomer(0));
    }

    @Test
    void anUnknownCategoryIsRefusedRatherThanAnsweredWithItsNeighbour() {
        Probabilities found = new Probabilities(
                List.of("soup", "milk"), 2, new float[] {.9f, .1f, .8f, .2f, .7f, .3f, .6f, .4f});
        int unknown = found.categories().indexOf("bread");
        assertThrows(IndexOutOfBoundsException.class, () -> found.of(1, unknown, 1));
        assertThrows(IndexOutOfBoundsException.class, () -> found.of(0, 2, 1));
        assertThrows(IndexOutOfBoundsException.class, () -> found.of(2, 0, 1));
        assertThrows(IndexOutOfBoundsException.class, () -> found.of(0, 0, 2));
        assertThrows(IndexOutOfBoundsException.class, () -> found.ofCustomer(2));
    }
}
