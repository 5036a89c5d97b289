package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ArgumentsTest {
    private static Arguments parse(String line) {
        return Arguments.parse(List.of(line.split(" ")), "give these");
    }

    @Test
    void theEngineIsMxnetUnlessAnotherIsNamed() {
        assertEquals(new Arguments("m", "s", "o", EngineName.MXNET), parse("m s --out o"));
        assertEquals(new Arguments("m", "s", "o", EngineName.MXNET), parse("m s --out o --model-engine mxnet"));
        assertEquals(new Arguments("m", "s", "o", EngineName.ONNX), parse("--model-engine onnx m --out o s"));
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "", "m s", "m s o", "m --out o", "m s t --out o", "m s --out", "m s --out o --out p", "m s --out o --fast",
        "m s --out o --model-engine", "m s --out o --model-engine onnx --model-engine mxnet",
    })
    void othersAreRefused(String line) {
        String said = assertThrows(BadInput.class, () -> parse(line)).getMessage();
        assertEquals("arguments: '" + line + "': give these", said);
    }

    @ParameterizedTest
    @ValueSource(strings = {"native", "ONNX", "tensorrt"})
    void anotherEngineIsRefused(String engine) {
        String said = assertThrows(BadInput.class, () -> parse("m s --out o --model-engine " + engine)).getMessage();
        assertEquals("--model-engine: '" + engine + "': choose mxnet or onnx", said);
        assertTrue(said.lines().count() == 1);
    }
}
