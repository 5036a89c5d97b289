package streamscorer.djl;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Of the file that Python wrote for the model of these tests. */
class OnnxFileTest {
    private static final String VERSION = "2060efb8f4ad9d4b";
    private static final String NO_FILE = "it is no ONNX file of stream-scorer's, or was altered or cut off";

    private static byte[] written() throws IOException {
        try (InputStream stream = OnnxFileTest.class.getResourceAsStream("/model/model.onnx")) {
            return stream.readAllBytes();
        }
    }

    private static byte[] followedBy(byte... more) throws IOException {
        byte[] content = written();
        byte[] longer = Arrays.copyOf(content, content.length + more.length);
        System.arraycopy(more, 0, longer, content.length, more.length);
        return longer;
    }

    @Test
    void whatPythonWritesPasses() throws IOException {
        assertNull(OnnxFile.problem(written(), VERSION));
    }

    @Test
    void aFileOfAnotherModelIsNamed() throws IOException {
        assertEquals(
                "it is of the model version '2060efb8f4ad9d4b', the model beside it is 0123456789abcdef",
                OnnxFile.problem(written(), "0123456789abcdef"));
    }

    @Test
    void whereverItIsCutOffItIsRefused() throws IOException {
        byte[] content = written();
        for (int length = 0; length < content.length; length++) {
            assertEquals(NO_FILE, OnnxFile.problem(Arrays.copyOf(content, length), VERSION), "at " + length);
        }
    }

    @Test
    void aChangeOfAnyByteOfTheGraphIsFound() throws IOException {
        byte[] content = written();
        int graph = new String(content, StandardCharsets.ISO_8859_1).indexOf("graph_sha256") + 12 + 2 + 64 + 3;
        assertTrue(graph < content.length / 4, "the graph is most of the file");
        for (int at = graph; at < content.length; at++) {
            byte[] altered = content.clone();
            altered[at] ^= 1;
            assertEquals("the SHA-256 of its graph is not the one that it says", OnnxFile.problem(altered, VERSION));
        }
    }

    /** Protobuf would merge it into the first, and run both. */
    @Test
    void aSecondGraphIsRefused() throws IOException {
        assertEquals("it has two graphs", OnnxFile.problem(followedBy((byte) (7 << 3 | 2), (byte) 0), VERSION));
    }

    /** Functions, which the graph may call: the checksum of the graph does not hold them. */
    @Test
    void whatPythonDoesNotWriteIsRefused() throws IOException {
        byte[] functions = followedBy((byte) (25 << 3 & 0x7F | 2 | 0x80), (byte) 1, (byte) 0);
        assertEquals(NO_FILE, OnnxFile.problem(functions, VERSION));
    }

    /** A field of bytes. */
    private static byte[] field(int number, byte[]... parts) {
        var bytes = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            bytes.writeBytes(part);
        }
        var field = new ByteArrayOutputStream();
        for (int left : new int[] {ProtobufFields.bytes(number), bytes.size()}) {
            for (; left >= 128; left >>= 7) {
                field.write(left & 127 | 128);
            }
            field.write(left);
        }
        field.writeBytes(bytes.toByteArray());
        return field.toByteArray();
    }

    private static byte[] field(int number, String text) {
        return field(number, text.getBytes(StandardCharsets.UTF_8));
    }

    /** What is wrong with a file of this graph whose checksum is right. */
    private static String problemOf(byte[]... graph) {
        byte[] whole = field(7, graph);
        int length = 0;
        for (byte[] part : graph) {
            length += part.length;
        }
        String sum = Manifest.sha256(Arrays.copyOfRange(whole, whole.length - length, whole.length));
        byte[] version = field(14, field(1, "stream_scorer.model_version"), field(2, VERSION));
        byte[] checksum = field(14, field(1, "stream_scorer.graph_sha256"), field(2, sum));
        var file = new ByteArrayOutputStream();
        for (byte[] part : new byte[][] {version, checksum, whole}) {
            file.writeBytes(part);
        }
        return OnnxFile.problem(file.toByteArray(), VERSION);
    }

    @Test
    void whatNoNetworkHasIsRefusedThoughTheChecksumIsRight() {
        byte[] addition = field(1, field(1, "values"), field(4, "Add"));
        assertNull(problemOf(addition, field(5, field(8, "weights"), field(9, "1234"))));
        assertEquals("it has an operator 'Loop' that no network has", problemOf(field(1, field(4, "Loop"))));
        assertEquals("it has an operator 'A\\x0a' that no network has", problemOf(field(1, field(4, "A\n"))));
        byte[] ofOthers = field(7, "com.example");
        assertEquals("a node has a field 7 that no network has", problemOf(field(1, field(4, "Add"), ofOthers)));
        byte[] subgraph = field(6, field(1, field(4, "Add")));
        assertEquals(
                "an attribute has a field 6 that no network has", problemOf(field(1, field(4, "Add"), field(5, subgraph))));
        byte[] elsewhere = field(13, field(1, "location"), field(2, "/etc/passwd"));
        assertEquals("a tensor has a field 13 that no network has", problemOf(addition, field(5, elsewhere)));
        byte[] constant = field(1, field(4, "ConstantOfShape"), field(5, field(5, elsewhere)));
        assertEquals("a tensor has a field 13 that no network has", problemOf(constant));
        assertEquals("the graph has a field 15 that no network has", problemOf(addition, field(15, "sparse")));
        assertEquals(NO_FILE, problemOf(new byte[] {10, 5}));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "\n", "x", "{}", "\b\b", ":\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u00ff\u0001"})
    void whatIsNoOnnxFileIsRefused(String text) {
        assertEquals(NO_FILE, OnnxFile.problem(text.getBytes(StandardCharsets.ISO_8859_1), VERSION));
    }
}
