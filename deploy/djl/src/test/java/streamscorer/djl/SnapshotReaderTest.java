package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SnapshotReaderTest {
    private static void write(Path file, String content) throws IOException {
        Files.write(file, content.getBytes(StandardCharsets.UTF_8));
    }

    private static String refusal(Path directory) {
        return assertThrows(BadInput.class, () -> SnapshotReader.open(directory)).getMessage();
    }

    @Test
    void aDirectoryWithoutAManifestIsRefusedByBothNames(@TempDir Path empty) {
        String message = refusal(empty);
        assertTrue(message.contains("has neither _manifest.json nor, as of older versions, manifest.json"), message);
    }

    @Test
    void anOldNameIsRead(@TempDir Path directory) throws IOException {
        write(directory.resolve("manifest.json"), "{");
        assertTrue(refusal(directory).contains("/manifest.json': it is not JSON"), refusal(directory));
    }

    @Test
    void theNewNameIsPreferred(@TempDir Path directory) throws IOException {
        write(directory.resolve("manifest.json"), "{");
        write(directory.resolve("_manifest.json"), "{\"format\": 2}");
        String message = refusal(directory);
        assertTrue(message.contains("/_manifest.json': format 2"), message);
        assertEquals(1, message.lines().count());
    }
}
