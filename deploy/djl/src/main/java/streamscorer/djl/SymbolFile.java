package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/**
 * A saved symbol is compared with the one that the manifest's network has, before MXNet reads it.
 *
 * <p>MXNet's own reader trusts a symbol: an operator that it does not know ends in a C++ stack trace, deep
 * nesting may end the JVM, and a symbol whose outputs have another order scores without a word. A right
 * checksum says only that the file was not damaged. stream_scorer/model/symbol_file.py does the same.
 */
final class SymbolFile {
    static final int MAX_BYTES = 1 << 20;

    private static final int MAX_SHOWN = 60;

    private SymbolFile() {}

    /** What is wrong with a symbol for a network; null where nothing is. */
    static String problem(byte[] content, Network network) {
        JsonElement graph;
        try {
            graph = Json.parse(content);
        } catch (Json.BadJson error) {
            return error.getMessage();
        }
        if (!graph.isJsonObject() || !(graph.getAsJsonObject().get("nodes") instanceof JsonArray nodes)) {
            return "it has no list of nodes";
        }
        if (content[0] != '{') {
            return "it does not begin with {";
        }
        String difference = difference(graph.getAsJsonObject(), nodes, NetworkSymbol.of(network));
        return difference == null ? null : "it is not the symbol of the manifest's network: " + difference;
    }

    private static String difference(JsonObject graph, JsonArray nodes, JsonObject wanted) {
        JsonArray right = wanted.getAsJsonArray("nodes");
        for (int i = 0; i < Math.min(nodes.size(), right.size()); i++) {
            if (!same(withoutEmptyAttributes(nodes.get(i)), right.get(i))) {
                return "its node " + i + " is another";
            }
        }
        if (nodes.size() != right.size()) {
            return "it has " + nodes.size() + " nodes, not " + right.size();
        }
        for (String name : List.of("arg_nodes", "node_row_ptr", "heads")) {
            JsonElement found = graph.get(name);
            if (found == null || !same(found, wanted.get(name))) {
                return "its " + name + " are others";
            }
        }
        Set<String> odd = new TreeSet<>(graph.keySet());
        odd.removeAll(wanted.keySet());
        odd.remove("attrs");
        if (!odd.isEmpty()) {
            return "it has a member '" + BadInput.shown(odd.iterator().next(), MAX_SHOWN) + "'";
        }
        JsonElement attributes = graph.get("attrs");
        return attributes == null || isVersion(attributes) ? null : "its attrs are others";
    }

    /** Equality by their texts, since 1 is not 1.0. */
    private static boolean same(JsonElement found, JsonElement right) {
        return Json.compact(found).equals(Json.compact(right));
    }

    /** MXNet writes empty attributes as none. */
    private static JsonElement withoutEmptyAttributes(JsonElement node) {
        if (node.isJsonObject() && node.getAsJsonObject().get("attrs") instanceof JsonObject attributes
                && attributes.size() == 0) {
            JsonObject without = node.getAsJsonObject().deepCopy();
            without.remove("attrs");
            return without;
        }
        return node;
    }

    /** Which MXNet wrote it. */
    private static boolean isVersion(JsonElement attributes) {
        if (!attributes.isJsonObject()) {
            return false;
        }
        JsonObject found = attributes.getAsJsonObject();
        if (found.size() == 0) {
            return true;
        }
        return found.size() == 1
                && found.get("mxnet_version") instanceof JsonArray version
                && version.size() == 2
                && Json.isText(version.get(0))
                && version.get(0).getAsString().equals("int")
                && Json.isWhole(version.get(1))
                && version.get(1).getAsLong() >= 0
                && version.get(1).getAsLong() <= Integer.MAX_VALUE;
    }
}
