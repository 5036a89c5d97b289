package streamscorer.djl;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * The symbol of a network as data: what MXNet 1.9.1 writes of the one that Python builds.
 * stream_scorer/model/network_symbol.py is the same in Python, and is compared with MXNet there.
 */
final class NetworkSymbol {
    private static final Map<String, String> STEMS =
            Map.of("elemwise_add", "_plus", "_rminus_scalar", "_rminusscalar");

    private final Network network;
    private final Map<String, long[]> shapes;
    private final Map<String, Integer> numbers = new HashMap<>();
    private final Map<String, Node> variables = new HashMap<>();
    private final Node data = new Node("null", "data", attributes("__storage_type__", "2"), List.of());
    private final Node table = new Node("null", "trend", new JsonObject(), List.of());
    private final Node firstDay =
            new Node("null", "trend_first_day", attributes("__shape__", tuple(1)), List.of());

    private NetworkSymbol(Network network) {
        this.network = network;
        shapes = network.shapes();
    }

    private static final class Node {
        final String operator;
        final String name;
        final JsonObject attributes;
        final List<Node> inputs;

        Node(String operator, String name, JsonObject attributes, List<Node> inputs) {
            this.operator = operator;
            this.name = name;
            this.attributes = attributes;
            this.inputs = inputs;
        }
    }

    /** nodes, arg_nodes, node_row_ptr and heads. */
    static JsonObject of(Network network) {
        JsonArray nodes = new JsonArray();
        int last = number(new NetworkSymbol(network).probabilities(), nodes, new HashMap<>());
        JsonArray arguments = new JsonArray();
        JsonArray rows = new JsonArray();
        for (int i = 0; i < nodes.size(); i++) {
            rows.add(i);
            if (nodes.get(i).getAsJsonObject().get("op").getAsString().equals("null")) {
                arguments.add(i);
            }
        }
        rows.add(nodes.size());
        JsonArray heads = new JsonArray();
        heads.add(reference(last));
        JsonObject symbol = new JsonObject();
        symbol.add("nodes", nodes);
        symbol.add("arg_nodes", arguments);
        symbol.add("node_row_ptr", rows);
        symbol.add("heads", heads);
        return symbol;
    }

    /** A node stands after those that it uses. */
    private static int number(Node node, JsonArray nodes, Map<Node, Integer> known) {
        if (known.containsKey(node)) {
            return known.get(node);
        }
        JsonArray inputs = new JsonArray();
        for (Node used : node.inputs) {
            inputs.add(reference(number(used, nodes, known)));
        }
        JsonObject written = new JsonObject();
        written.addProperty("op", node.operator);
        written.addProperty("name", node.name);
        if (node.attributes.size() > 0) {
            written.add("attrs", node.attributes);
        }
        written.add("inputs", inputs);
        nodes.add(written);
        known.put(node, nodes.size() - 1);
        return nodes.size() - 1;
    }

    private static JsonArray reference(int node) {
        JsonArray reference = new JsonArray();
        reference.add(node);
        reference.add(0);
        reference.add(0);
        return reference;
    }

    private static JsonObject attributes(Object... namesAndValues) {
        JsonObject attributes = new JsonObject();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            attributes.addProperty((String) namesAndValues[i], String.valueOf(namesAndValues[i + 1]));
        }
        return attributes;
    }

    /** Sizes as Python writes a tuple. */
    private static String tuple(long... sizes) {
        String inner = Arrays.stream(sizes).mapToObj(Long::toString).collect(Collectors.joining(", "));
        return "(" + inner + (sizes.length == 1 ? ",)" : ")");
    }

    private Node parameter(String name) {
        return parameter(name, attributes("__shape__", tuple(shapes.get(name)), "__dtype__", "0"));
    }

    private Node parameter(String name, JsonObject attributes) {
        return variables.computeIfAbsent(name, n -> new Node("null", n, attributes, List.of()));
    }

    private Node apply(String operator, JsonObject attributes, Node... inputs) {
        String stem = STEMS.getOrDefault(operator, operator.toLowerCase(Locale.ROOT));
        int number = numbers.merge(stem, 1, Integer::sum) - 1;
        return new Node(operator, stem + number, attributes, List.of(inputs));
    }

    private Node apply(String operator, Node... inputs) {
        return apply(operator, new JsonObject(), inputs);
    }

    private Node reshape(Node input, long... sizes) {
        return apply("Reshape", attributes("shape", tuple(sizes)), input);
    }

    private Node dense(FeatureColumns.Range columns) {
        JsonObject cut = attributes(
                "begin", "(None, " + columns.start() + ")", "end", "(None, " + columns.stop() + ")");
        return apply("cast_storage", attributes("stype", "default"), apply("slice", cut, data));
    }

    private Node concat(List<Node> parts, int dimension) {
        JsonObject attributes = attributes("dim", dimension, "num_args", parts.size());
        return apply("Concat", attributes, parts.toArray(Node[]::new));
    }

    private Node probabilities() {
        Node total = reshape(logits(), 0, network.categories(), network.actions());
        Node scale = calibration("calibration_scale");
        Node shift = calibration("calibration_shift");
        total = apply("broadcast_mul", total, scale);
        total = apply("broadcast_add", total, shift);
        if (network.classes() > 2) {
            Node first = apply("slice_axis", attributes("axis", 2, "begin", 0, "end", 1), total);
            Node every = concat(List.of(apply("zeros_like", first), total), 2);
            return new Node("softmax", "probabilities", attributes("axis", 2), List.of(every));
        }
        Node acts = apply("sigmoid", total);
        Node not = apply("_rminus_scalar", attributes("scalar", 1), acts);
        return new Node("Concat", "probabilities", attributes("dim", 2, "num_args", 2), List.of(not, acts));
    }

    private Node calibration(String name) {
        return parameter(name, attributes("__shape__", tuple(shapes.get(name))));
    }

    private Node logits() {
        Node context = context();
        Node total = layer(context, "head", outputs());
        if (has("linear_weight")) {
            total = apply("elemwise_add", total, linear());
        }
        if (has("tower_weight")) {
            total = apply("elemwise_add", total, tower(context));
        }
        Node trend = null;
        if (has("trend_weight")) {
            trend = contrasts();
            Node product = apply("dot", trend, parameter("trend_weight"));
            total = apply("elemwise_add", total, reshape(product, 0, -1));
        }
        if (!has("own_weight") && !has("pooled_out_weight")) {
            return total;
        }
        List<Node> columns = network.own().stream().map(own -> ofCategories(dense(own), 1)).toList();
        Node own = apply("stack", attributes("axis", 2, "num_args", columns.size()), columns.toArray(Node[]::new));
        if (has("own_weight")) {
            Node turned = apply("transpose", attributes("axes", "(1, 0, 2)"), own);
            Node product = apply("batch_dot", turned, parameter("own_weight"));
            Node back = apply("transpose", attributes("axes", "(1, 0, 2)"), product);
            total = apply("elemwise_add", total, reshape(back, 0, -1));
        }
        if (has("pooled_out_weight")) {
            Node pooled = pooledPath(trend == null ? own : concat(List.of(own, trend), 2), context);
            if (network.pairs() == Network.Pairs.HISTORY) {
                pooled = apply("broadcast_mul", pooled, withHistory(columns));
            }
            total = apply("elemwise_add", total, reshape(pooled, 0, -1));
        }
        return total;
    }

    private Node context() {
        List<Node> parts = new ArrayList<>();
        if (!network.customer().isEmpty()) {
            List<Node> columns = network.customer().stream().map(this::dense).toList();
            Node wide = columns.size() == 1 ? columns.get(0) : concat(columns, 1);
            wide = apply("broadcast_sub", wide, parameter("customer_mean"));
            parts.add(apply("broadcast_mul", wide, parameter("customer_scale")));
        }
        if (!network.hidden().isEmpty()) {
            Node hidden = apply("dot", data, parameter("input_weight"));
            hidden = apply("relu", apply("broadcast_add", hidden, parameter("input_bias")));
            for (int i = 1; i < network.hidden().size(); i++) {
                hidden = apply("relu", layer(hidden, "hidden" + i, network.hidden().get(i)));
            }
            parts.add(hidden);
        }
        return parts.size() == 1 ? parts.get(0) : concat(parts, 1);
    }

    private Node linear() {
        Node linear = apply("dot", data, parameter("linear_weight"));
        return apply("FullyConnected", attributes("num_hidden", outputs(), "no_bias", "True"),
                linear, parameter("linear_out_weight"));
    }

    private Node tower(Node context) {
        long units = network.tower();
        Node ofRow = apply("relu", layer(context, "tower", units));
        Node embedding = reshape(parameter("pooled_category_bias"), network.categories(), network.pooled().get(0));
        JsonObject all = attributes("num_hidden", network.actions() * units, "no_bias", "True");
        Node ofCategory = apply("FullyConnected", all, embedding, parameter("tower_category_weight"));
        Node weight = reshape(ofCategory, outputs(), units);
        return apply("FullyConnected", attributes("num_hidden", outputs(), "no_bias", "True"), ofRow, weight);
    }

    private Node contrasts() {
        Node day = dense(new FeatureColumns.Range(network.trend(), network.trend() + 1));
        Node row = reshape(apply("broadcast_sub", day, firstDay), -1);
        Node ofRow = apply("take", attributes("axis", 0, "mode", "clip"), table, row);
        ofRow = reshape(ofRow, 0, network.contrasts(), network.vocabulary());
        return apply("transpose", attributes("axes", "(0, 2, 1)"), ofCategories(ofRow, 2));
    }

    private Node pooledPath(Node inputs, Node context) {
        long n = network.categories();
        long first = network.pooled().get(0);
        long width = network.contextWidth();
        Node shared = apply("broadcast_to", attributes("shape", tuple(n, first, width)),
                parameter("pooled_context_weight"));
        shared = reshape(shared, n * first, width);
        Node bias = parameter("pooled_category_bias");
        Node fromContext =
                apply("FullyConnected", attributes("num_hidden", n * first), context, shared, bias);
        JsonObject alone = attributes("num_hidden", first, "flatten", "False", "no_bias", "True");
        Node layer = apply("FullyConnected", alone, inputs, parameter("pooled_own_weight"));
        Node ofCategory = reshape(fromContext, 0, n, first);
        layer = apply("relu", apply("elemwise_add", layer, ofCategory));
        for (int i = 1; i < network.pooled().size(); i++) {
            layer = apply("relu", unflattened(layer, "pooled" + i, network.pooled().get(i)));
        }
        if (has("pooled_out_bias")) {
            return unflattened(layer, "pooled_out", network.actions());
        }
        JsonObject actions = attributes("num_hidden", network.actions(), "flatten", "False", "no_bias", "True");
        return apply("FullyConnected", actions, layer, parameter("pooled_out_weight"));
    }

    private Node withHistory(List<Node> columns) {
        Node[] present = columns.stream()
                .map(column -> apply("_not_equal_scalar", attributes("scalar", 0), column))
                .toArray(Node[]::new);
        Node found = apply("add_n", attributes("num_args", present.length), present);
        found = apply("_greater_scalar", attributes("scalar", 0), found);
        return apply("expand_dims", attributes("axis", 2), found);
    }

    /** N * M. */
    private long outputs() {
        return (long) network.categories() * network.actions();
    }

    private boolean has(String parameter) {
        return shapes.containsKey(parameter);
    }

    private Node layer(Node inputs, String name, long size) {
        return layer(inputs, name, attributes("num_hidden", size));
    }

    private Node unflattened(Node inputs, String name, long size) {
        return layer(inputs, name, attributes("num_hidden", size, "flatten", "False"));
    }

    private Node layer(Node inputs, String name, JsonObject attributes) {
        return apply("FullyConnected", attributes, inputs, parameter(name + "_weight"), parameter(name + "_bias"));
    }

    private Node ofCategories(Node values, int axis) {
        if (!has("category_index")) {
            return values;
        }
        return apply("take", attributes("axis", axis), values, parameter("category_index"));
    }
}
