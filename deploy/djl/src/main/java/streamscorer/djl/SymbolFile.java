package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Set;

/**
 * What a saved symbol may contain, checked before MXNet reads it.
 *
 * <p>MXNet's own reader trusts a symbol: an operator that it does not know ends in a C++ stack trace, and
 * deep nesting may end the JVM. A right checksum says only that the file was not damaged.
 * stream_scorer/model/symbol_file.py does the same checks.
 */
final class SymbolFile {
    /** Those that stream_scorer/model/network.py uses for inference. */
    private static final Set<String> OPERATORS = Set.of(
            "Concat", "FullyConnected", "Reshape", "_rminus_scalar", "batch_dot", "broadcast_add",
            "broadcast_mul", "broadcast_sub", "broadcast_to", "cast_storage", "dot", "elemwise_add",
            "null", "relu", "sigmoid", "slice", "slice_axis", "softmax", "stack", "take", "transpose",
            "zeros_like");

    private static final int MAX_NODES = 10_000;

    private SymbolFile() {}

    /**
     * Checks a symbol.
     *
     * @param file where it stands, for messages
     * @throws BadInput where it is not one of this project's
     */
    static void check(Path file, byte[] content) {
        String problem;
        try {
            problem = problem(JsonParser.parseString(new String(content, StandardCharsets.UTF_8)));
        } catch (JsonParseException error) {
            problem = "it is not JSON";
        } catch (IllegalStateException | NullPointerException | NumberFormatException | ClassCastException
                | UnsupportedOperationException error) {
            problem = "it is not a symbol of MXNet's format";
        }
        if (problem != null) {
            throw new BadInput(Artefact.KIND, file, problem + "; train the model again");
        }
    }

    /** What is wrong with it; null where nothing is. */
    private static String problem(JsonElement graph) {
        JsonArray nodes = graph.getAsJsonObject().getAsJsonArray("nodes");
        if (nodes.isEmpty() || nodes.size() > MAX_NODES) {
            return "it has " + nodes.size() + " nodes, from 1 to " + MAX_NODES + " are read";
        }
        JsonArray arguments = new JsonArray();
        int inputs = 0;
        for (int number = 0; number < nodes.size(); number++) {
            JsonObject node = nodes.get(number).getAsJsonObject();
            String operator = node.get("op").getAsString();
            if (!OPERATORS.contains(operator)) {
                return "node " + number + " has the unknown operator '" + operator + "'";
            }
            JsonArray references = node.getAsJsonArray("inputs");
            if (operator.equals("null") != references.isEmpty()) {
                return "node " + number + " (" + operator + ") has the inputs " + references;
            }
            for (JsonElement reference : references) {
                if (!isOutputBefore(reference.getAsJsonArray(), number)) {
                    return "node " + number + " (" + operator + ") refers to " + reference
                            + ", which is no output of a node before it";
                }
            }
            if (operator.equals("null")) {
                arguments.add(number);
                inputs += node.get("name").getAsString().equals("data") ? 1 : 0;
            }
        }
        JsonArray last = new JsonArray();
        last.add(nodes.size() - 1);
        last.add(0);
        last.add(0);
        JsonArray heads = new JsonArray();
        heads.add(last);
        if (!heads.equals(graph.getAsJsonObject().get("heads"))) {
            return "its heads are not its last node";
        }
        if (!arguments.equals(graph.getAsJsonObject().get("arg_nodes"))) {
            return "its arg_nodes are not the nodes that have no operator";
        }
        return inputs == 1 ? null : "it has " + inputs + " inputs named data";
    }

    /** Whether it refers to the only output of a node before this one, so that there is no circle. */
    private static boolean isOutputBefore(JsonArray reference, int number) {
        if (reference.size() != 3 || reference.get(1).getAsInt() != 0 || reference.get(2).getAsInt() != 0) {
            return false;
        }
        double node = reference.get(0).getAsDouble();
        return node >= 0 && node < number && node == Math.rint(node);
    }
}
