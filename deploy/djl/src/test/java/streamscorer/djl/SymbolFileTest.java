package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SymbolFileTest {
    private static final Path FILE = Path.of("m", "model-symbol.json");

    private static String right() throws Exception {
        try (InputStream stream = SymbolFileTest.class.getResourceAsStream("/model/model-symbol.json")) {
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private static String refusal(String symbol) {
        byte[] content = symbol.getBytes(StandardCharsets.UTF_8);
        String message = assertThrows(BadInput.class, () -> SymbolFile.check(FILE, content)).getMessage();
        assertTrue(message.startsWith("model: 'm/model-symbol.json': "), message);
        assertEquals(1, message.lines().count());
        return message;
    }

    @Test
    void oursPasses() throws Exception {
        byte[] content = right().getBytes(StandardCharsets.UTF_8);
        assertDoesNotThrow(() -> SymbolFile.check(FILE, content));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "\"op\": \"relu\" | \"op\": \"Custom\" | unknown operator 'Custom'",
        "\"name\": \"data\" | \"name\": \"other\" | it has 0 inputs named data",
        "\"heads\": [[ | \"heads\": [[1, 0, 0], [ | its heads are not its last node",
        "\"arg_nodes\": [ | \"arg_nodes\": [7, | arg_nodes",
        "\"inputs\": [[0, 0, 0]] | \"inputs\": [[999, 0, 0]] | refers to [999,0,0]",
        "\"inputs\": [[0, 0, 0]] | \"inputs\": [[-1, 0, 0]] | refers to [-1,0,0]",
        "\"inputs\": [[0, 0, 0]] | \"inputs\": 3 | not a symbol",
    })
    void whatNoneOfOursHasIsNamed(String text, String other, String said) throws Exception {
        String wrong = right().replace(text, other);
        assertTrue(!wrong.equals(right()), text);
        assertTrue(refusal(wrong).contains(said), refusal(wrong));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{}", "{\"nodes\": 3}", "{\"nodes\": []}", "{\"nodes\": [null]}"})
    void whatIsNoSymbolIsRefused(String text) {
        assertTrue(refusal(text).contains("train the model again"));
    }

    @Test
    void deepNestingIsRefused() {
        assertTrue(refusal("[".repeat(100_000)).contains("it is not JSON"));
    }
}
