package streamscorer.djl;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;

/**
 * An ONNX file that {@code stream-scorer models convert} made: of this model, and not altered.
 *
 * <p>The file is a protobuf message, ModelProto. Its metadata names the model, and has the SHA-256 of its
 * graph (stream_scorer/model/onnx_file.py). Only the outermost fields are read here.
 */
final class OnnxFile {
    /** What protobuf itself may hold. */
    private static final long MAX_BYTES = Integer.MAX_VALUE - 8L;

    private static final int GRAPH = 7;
    private static final int METADATA = 14;
    private static final int KEY = 1;
    private static final int VALUE = 2;
    private static final String PREFIX = "stream_scorer.";
    private static final String AGAIN = "make it again with `stream-scorer models convert`";

    private OnnxFile() {}

    /**
     * The file's bytes.
     *
     * @throws BadInput where it is missing, altered, or of another model
     */
    static byte[] read(Path file, Artefact artefact) {
        byte[] content = InputFile.read("onnx", file, MAX_BYTES);
        Map<String, String> about = new HashMap<>();
        ByteBuffer graph = null;
        try {
            Fields fields = new Fields(ByteBuffer.wrap(content));
            while (fields.next()) {
                if (fields.number == GRAPH) {
                    graph = fields.value;
                } else if (fields.number == METADATA) {
                    addEntry(fields.value, about);
                }
            }
        } catch (IllegalArgumentException error) {
            throw new BadInput("onnx", file, "is not an ONNX file, or is damaged; " + AGAIN);
        }
        String version = about.get(PREFIX + "model_version");
        if (graph == null || version == null) {
            throw new BadInput("onnx", file, "was not made by stream-scorer; " + AGAIN);
        }
        if (!version.equals(artefact.version())) {
            throw new BadInput("onnx", file, "is of the model version " + BadInput.shown(version, 32)
                    + ", the model is " + artefact.version() + "; " + AGAIN);
        }
        if (!sha256(graph).equals(about.get(PREFIX + "graph_sha256"))) {
            throw new BadInput("onnx", file, "was altered after it was written; " + AGAIN);
        }
        return content;
    }

    private static void addEntry(ByteBuffer message, Map<String, String> about) {
        Fields fields = new Fields(message);
        String key = "";
        String value = "";
        while (fields.next()) {
            if (fields.number == KEY) {
                key = StandardCharsets.UTF_8.decode(fields.value).toString();
            } else if (fields.number == VALUE) {
                value = StandardCharsets.UTF_8.decode(fields.value).toString();
            }
        }
        about.put(key, value);
    }

    private static String sha256(ByteBuffer content) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            digest.update(content);
            return HexFormat.of().formatHex(digest.digest());
        } catch (java.security.NoSuchAlgorithmException error) {
            throw new IllegalStateException(error); // every Java has it
        }
    }

    /** The fields of a protobuf message, one after the other. */
    private static final class Fields {
        private static final int VARINT = 0;
        private static final int BYTES = 2;
        private static final int MOST_BITS = 63;

        private final ByteBuffer message;
        private int number;
        private ByteBuffer value;

        Fields(ByteBuffer message) {
            this.message = message;
        }

        /**
         * Whether there is another field; then {@code number} is its number, and {@code value} its bytes
         * where it has some.
         *
         * @throws IllegalArgumentException where the message is none, or ends inside a field
         */
        boolean next() {
            if (!message.hasRemaining()) {
                return false;
            }
            long tag = varint();
            number = (int) (tag >>> 3);
            long first = varint(); // no field of ours has another kind than these two
            value = ByteBuffer.allocate(0);
            if ((tag & 7) == BYTES) {
                if (first < 0 || first > message.remaining()) {
                    throw new IllegalArgumentException("a field ends beyond the message");
                }
                value = message.slice(message.position(), (int) first);
                message.position(message.position() + (int) first);
            } else if ((tag & 7) != VARINT) {
                throw new IllegalArgumentException("a field of another kind");
            }
            return true;
        }

        private long varint() {
            long found = 0;
            for (int shift = 0; shift <= MOST_BITS && message.hasRemaining(); shift += 7) {
                byte part = message.get();
                found |= (part & 0x7FL) << shift;
                if (part >= 0) {
                    return found;
                }
            }
            throw new IllegalArgumentException("a number without an end");
        }
    }
}
