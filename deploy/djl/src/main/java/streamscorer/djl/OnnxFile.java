package streamscorer.djl;

import static streamscorer.djl.ProtobufFields.bytes;
import static streamscorer.djl.ProtobufFields.number;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * The file that {@code stream-scorer models convert} writes, checked before ONNX Runtime reads it: it must be
 * whole, of the artefact beside which it lies, and have nothing that stream-scorer does not write. It says of
 * itself of which model it is, and what the SHA-256 of its graph is, which holds all weights.
 * stream_scorer/model/onnx_file.py describes it.
 */
final class OnnxFile {
    /** Its name in the artefact's directory. */
    static final String NAME = "model.onnx";

    private static final long MAX_BYTES = Integer.MAX_VALUE - 8; // of an array; protobuf's limit is higher by 8
    private static final String PREFIX = "stream_scorer.";
    private static final int MAX_SHOWN = 60; // characters
    private static final String CUT_OFF = "it is no ONNX file of stream-scorer's, or was altered or cut off";

    private static final int GRAPH = bytes(7);
    private static final int METADATA = bytes(14);
    /** ir_version, producer_name, producer_version, doc_string and opset_import. */
    private static final Set<Integer> OTHERS = Set.of(number(1), bytes(2), bytes(3), bytes(6), bytes(8));

    private OnnxFile() {}

    /** What is wrong with a file. */
    static final class Wrong extends RuntimeException {
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
            check(new ProtobufFields(content), version);
            return null;
        } catch (Wrong wrong) {
            return wrong.getMessage();
        } catch (ProtobufFields.Malformed malformed) {
            return CUT_OFF;
        }
    }

    private static void check(ProtobufFields file, String version) {
        Map<String, String> about = new HashMap<>();
        ProtobufFields graph = null;
        while (file.hasNext()) {
            int tag = file.next();
            if (tag == GRAPH) {
                // Protobuf would merge a second one into the first.
                require(graph == null, "it has two graphs");
                graph = file.last();
            } else if (tag == METADATA) {
                ProtobufFields entry = file.last();
                String before = about.put(text(entry, 1), text(entry, 2));
                require(before == null, "it says something of itself twice");
            } else {
                require(OTHERS.contains(tag), CUT_OFF);
            }
        }
        String found = about.get(PREFIX + "model_version");
        require(graph != null && found != null, CUT_OFF);
        String other = "it is of the model version '%s', the model beside it is %s";
        require(version.equals(found), other.formatted(BadInput.shown(found, MAX_SHOWN), version));
        boolean isWhole = graph.sha256().equals(about.get(PREFIX + "graph_sha256"));
        require(isWhole, "the SHA-256 of its graph is not the one that it says");
        OnnxGraph.check(graph);
    }

    /** The text of the next field, which must have this number. */
    private static String text(ProtobufFields entry, int field) {
        require(entry.next() == bytes(field), CUT_OFF);
        return entry.last().text();
    }

    private static void require(boolean right, String problem) {
        if (!right) {
            throw new Wrong(problem);
        }
    }
}
