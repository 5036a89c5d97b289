package streamscorer.djl;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;

/**
 * The file that {@code stream-scorer models convert} writes, checked before ONNX Runtime reads it: it must be
 * whole, and of the artefact beside which it lies. It says of itself of which model it is, and what the
 * SHA-256 of its graph is, which holds all weights. stream_scorer/model/onnx_file.py describes it.
 */
final class OnnxFile {
    /** Its name in the artefact's directory. */
    static final String NAME = "model.onnx";

    private static final long MAX_BYTES = Integer.MAX_VALUE - 8; // of an array; protobuf's limit is higher by 8
    private static final String PREFIX = "stream_scorer.";
    private static final int MAX_SHOWN = 60; // characters
    private static final String CUT_OFF = "it is no ONNX file of stream-scorer's, or was altered or cut off";

    // Tags of ModelProto's fields: the field's number, and 2 for bytes with a length.
    private static final int GRAPH = 7 << 3 | 2;
    private static final int METADATA = 14 << 3 | 2;
    /** ir_version, producer_name, producer_version, doc_string and opset_import. */
    private static final Set<Integer> OTHERS = Set.of(1 << 3, 2 << 3 | 2, 3 << 3 | 2, 6 << 3 | 2, 8 << 3 | 2);

    private final byte[] content;
    private final int end;
    private int at;

    private OnnxFile(byte[] content, int start, int end) {
        this.content = content;
        this.at = start;
        this.end = end;
    }

    /** A protobuf field; its bytes are from start up to, but not including, stop. */
    private record Field(int tag, int start, int stop) {}

    private static final class Wrong extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Wrong(String message) {
            super(message, null, false, false);
        }
    }

    /**
     * The bytes of an artefact's file.
     *
     * @throws BadInput where it is missing, altered, or of another model
     */
    static byte[] read(Artefact artefact) {
        Path file = artefact.directory().resolve(NAME);
        if (Files.notExists(file)) {
            throw missing(file, artefact.directory());
        }
        byte[] content = InputFile.read(Artefact.KIND, file, MAX_BYTES);
        String problem = problem(content, artefact.version());
        if (problem != null) {
            throw new BadInput(Artefact.KIND, file, problem + "; delete it and " + again(artefact.directory()));
        }
        return content;
    }

    /** The error of an artefact without it. */
    static BadInput missing(Object file, Object directory) {
        return new BadInput(Artefact.KIND, file, "is missing, and the engine onnx needs it; " + again(directory));
    }

    /** What writes it. */
    static String again(Object directory) {
        String command = "write it: stream-scorer models convert %s --to onnx --out %s/" + NAME;
        return command.formatted(directory, directory);
    }

    /** What is wrong with a file for a model of this version; null where nothing is. */
    static String problem(byte[] content, String version) {
        try {
            return new OnnxFile(content, 0, content.length).check(version);
        } catch (Wrong wrong) {
            return wrong.getMessage();
        }
    }

    private String check(String version) {
        Map<String, String> about = new HashMap<>();
        String graph = null;
        while (at < end) {
            Field field = next();
            if (field.tag() == GRAPH) {
                // Protobuf would merge a second one into the first.
                require(graph == null, "it has two graphs");
                MessageDigest digest = Manifest.sha256();
                digest.update(content, field.start(), field.stop() - field.start());
                graph = HexFormat.of().formatHex(digest.digest());
            } else if (field.tag() == METADATA) {
                OnnxFile entry = new OnnxFile(content, field.start(), field.stop());
                String before = about.put(entry.text(1), entry.text(2));
                require(before == null, "it says something of itself twice");
            } else {
                require(OTHERS.contains(field.tag()), CUT_OFF);
            }
        }
        String found = about.get(PREFIX + "model_version");
        require(graph != null && found != null, CUT_OFF);
        String other = "it is of the model version '%s', the model beside it is %s";
        require(version.equals(found), other.formatted(BadInput.shown(found, MAX_SHOWN), version));
        require(graph.equals(about.get(PREFIX + "graph_sha256")), "the SHA-256 of its graph is not the one that it says");
        return null;
    }

    /** The text of the next field, which must have this number. */
    private String text(int number) {
        Field field = next();
        require(field.tag() == (number << 3 | 2), CUT_OFF);
        return new String(content, field.start(), field.stop() - field.start(), StandardCharsets.UTF_8);
    }

    /** The next field, of a number or of bytes; protobuf has no others here. */
    private Field next() {
        long tag = varint();
        boolean isNumber = (tag & 7) == 0;
        require(tag > 0 && tag <= Integer.MAX_VALUE && (isNumber || (tag & 7) == 2), CUT_OFF);
        long length = varint();
        int start = at;
        require(isNumber || length >= 0 && length <= end - start, CUT_OFF);
        at = isNumber ? start : start + (int) length;
        return new Field((int) tag, start, at);
    }

    /** Seven bits a byte, the lowest first. */
    private long varint() {
        long value = 0;
        for (int shift = 0; shift < Long.SIZE; shift += 7) {
            require(at < end, CUT_OFF);
            byte part = content[at++];
            value |= (part & 0x7FL) << shift;
            if (part >= 0) {
                return value;
            }
        }
        throw new Wrong(CUT_OFF);
    }

    private static void require(boolean right, String problem) {
        if (!right) {
            throw new Wrong(problem);
        }
    }
}
