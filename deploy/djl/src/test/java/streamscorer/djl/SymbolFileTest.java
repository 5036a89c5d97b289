package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Of a small network; tests/jvm/test_parity.py compares the symbols of every kind of network. */
class SymbolFileTest {
    private static final Network NETWORK = new Network(
            7, 3, List.of(0, 2), 2, List.of(new FeatureColumns.Range(2, 5)),
            List.of(new FeatureColumns.Range(0, 2)), -1, 0, List.of(4), true, List.of(),
            Network.Pairs.ALL, 0, 0);

    private static String right() {
        return Json.compact(NetworkSymbol.of(NETWORK));
    }

    private static String problem(String symbol) {
        return SymbolFile.problem(symbol.getBytes(StandardCharsets.UTF_8), NETWORK);
    }

    @Test
    void theNetworksOwnPasses() {
        assertNull(problem(right()));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "\"op\":\"relu\" | \"op\":\"Custom\" | is another",
        "\"name\":\"data\" | \"name\":\"other\" | its node 0 is another",
        "\"heads\":[[ | \"heads\":[[1,0,0],[ | its heads are others",
        "\"arg_nodes\":[ | \"arg_nodes\":[7, | its arg_nodes are others",
        "\"inputs\":[[0,0,0]] | \"inputs\":[[0.0,0,0]] | is another",
        "\"inputs\":[[0,0,0]] | \"inputs\":3 | is another",
        "\"heads\": | \"x\":NaN,\"heads\": | it has a member 'x'",
        "\"heads\": | \"heads\":1,\"heads\": | it has the name 'heads' twice",
        "\"heads\": | \"attrs\":{\"deep\":{}},\"heads\": | its attrs are others",
    })
    void whatTheNetworkHasNotIsNamed(String text, String other, String said) {
        String wrong = right().replace(text, other);
        assertTrue(!wrong.equals(right()), text);
        assertTrue(problem(wrong).contains(said), problem(wrong));
    }

    @Test
    void anotherOrderOfTheOutputsIsRefused() {
        int last = right().lastIndexOf("\"inputs\":[[");
        String wrong = right().substring(0, last)
                + right().substring(last).replaceFirst("\\[\\[(\\d+),0,0\\],\\[(\\d+),0,0\\]\\]", "[[$2,0,0],[$1,0,0]]");
        assertTrue(problem(wrong).contains("is another"), problem(wrong));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{}", "{\"nodes\": 3}", "{\"nodes\": []}", "{'nodes': []}"})
    void whatIsNoSymbolIsRefused(String text) {
        assertEquals(1, problem(text).lines().count());
    }

    @Test
    void deepNestingIsRefused() {
        assertEquals("it is nested too deeply", problem("[".repeat(100_000)));
    }
}
