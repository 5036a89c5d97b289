package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ManifestTest {
    /** As Python writes it: sorted, indented, ASCII; a NaN, a float's own digits, odd strings. */
    private static final String CONTENT = """
            {
             "checksum": "%s",
             "features": {
              "names": ["a, b", "cr\\u00e8me \\"}{\\"", "\\\\"]
             },
             "fingerprint": "%s",
             "format": 1,
             "metrics": {
              "auc": NaN,
              "rate": 1e-05
             }
            }
            """;
    // From Python: hashlib.sha256 and xxhash.xxh64 of json.dumps(..., separators=(",", ":")).
    private static final String CHECKSUM = "a10a6a43497749616cb17fda275952735ea09a2da10829dd48e2ae1d5430e0f6";
    private static final String FINGERPRINT = "ae7b1df5fdc5295d";

    private static Manifest parse(String content) {
        Manifest manifest = Manifest.parse("model", "m/manifest.json", content.getBytes(StandardCharsets.UTF_8));
        manifest.requireUnaltered();
        return manifest;
    }

    private static String refusal(String content) {
        String message = assertThrows(BadInput.class, () -> parse(content).fingerprint()).getMessage();
        assertTrue(message.startsWith("model: 'm/manifest.json': "), message);
        assertEquals(1, message.lines().count());
        return message;
    }

    @Test
    void checksumAndFingerprintArePythons() {
        Manifest manifest = parse(CONTENT.formatted(CHECKSUM, FINGERPRINT));
        assertEquals(FINGERPRINT, manifest.fingerprint());
        assertEquals("crème \"}{\"",
                manifest.get("features").getAsJsonObject().getAsJsonArray("names").get(1).getAsString());
    }

    @Test
    void changedContentIsRefused() {
        String changed = CONTENT.formatted(CHECKSUM, FINGERPRINT).replace("1e-05", "2e-05");
        assertTrue(refusal(changed).contains("was altered after it was written"));
    }

    @Test
    void missingChecksumIsRefused() {
        String without = CONTENT.formatted(CHECKSUM, FINGERPRINT).replaceAll("\"checksum\": \"\\w+\",", "");
        assertTrue(refusal(without).contains("was altered"));
    }

    @Test
    void newerFormatSaysUpgrade() {
        String newer = CONTENT.formatted(CHECKSUM, FINGERPRINT).replace("\"format\": 1", "\"format\": 3");
        assertTrue(refusal(newer).contains("format 3; this program reads up to 2: upgrade"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{", "[]", "null", "{}", "{\"format\": 0}", "{\"format\"", "\"", "{\"format\": \"1\"}"})
    void whatIsNoManifestIsRefused(String content) {
        assertTrue(refusal(content).contains("copy or train the model again"));
    }
}
