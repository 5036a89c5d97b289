package streamscorer.djl;

import static streamscorer.djl.ProtobufFields.bytes;
import static streamscorer.djl.ProtobufFields.number;

import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;

/**
 * What an ONNX graph may have: the operators that stream_scorer/model/onnx_network.py uses, and weights that are in
 * the file itself. So no graph has ONNX Runtime read another file, loop for ever, or call what is not ONNX's
 * own, also where its checksum is right.
 */
final class OnnxGraph {
    private static final Set<String> OPERATORS = Set.of(
            "Abs", "Add", "Cast", "Clip", "Concat", "ConstantOfShape", "Gather", "GatherND", "Gemm", "Greater",
            "Identity", "MatMul", "Mul", "NonZero", "ReduceSum", "Relu", "Reshape", "ScatterElements", "ScatterND",
            "Shape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Sum", "Transpose", "Unsqueeze");
    private static final int MAX_SHOWN = 60; // characters of a name

    /** name, input and output. */
    private static final Set<Integer> OF_GRAPH = Set.of(bytes(2), bytes(11), bytes(12));
    /** input, output and name; a domain would be another than ONNX's own. */
    private static final Set<Integer> OF_NODE = Set.of(bytes(1), bytes(2), bytes(3));
    /** name, i, s, ints and type; graphs would be those of loops and branches. */
    private static final Set<Integer> OF_ATTRIBUTE =
            Set.of(bytes(1), number(3), bytes(4), number(8), bytes(8), number(20));
    /** dims, data_type, name and raw_data; external_data would be another file. */
    private static final Set<Integer> OF_TENSOR = Set.of(number(1), bytes(1), number(2), bytes(8), bytes(9));

    private OnnxGraph() {}

    /**
     * Refuses what stream-scorer does not write.
     *
     * @throws OnnxFile.Wrong where there is such a thing
     */
    static void check(ProtobufFields graph) {
        check(graph, "the graph", OF_GRAPH, Map.of(bytes(1), OnnxGraph::node, bytes(5), OnnxGraph::tensor));
    }

    private static void node(ProtobufFields fields) {
        check(fields, "a node", OF_NODE, Map.of(bytes(4), OnnxGraph::operator, bytes(5), OnnxGraph::attribute));
    }

    private static void operator(ProtobufFields name) {
        if (!OPERATORS.contains(name.text())) {
            throw new OnnxFile.Wrong("it has an operator '" + BadInput.shown(name.text(), MAX_SHOWN) + "' that no network has");
        }
    }

    private static void attribute(ProtobufFields fields) {
        check(fields, "an attribute", OF_ATTRIBUTE, Map.of(bytes(5), OnnxGraph::tensor));
    }

    private static void tensor(ProtobufFields fields) {
        check(fields, "a tensor", OF_TENSOR, Map.of());
    }

    private static void check(
            ProtobufFields message, String what, Set<Integer> plain, Map<Integer, Consumer<ProtobufFields>> parts) {
        while (message.hasNext()) {
            int tag = message.next();
            if (parts.containsKey(tag)) {
                parts.get(tag).accept(message.last());
            } else if (!plain.contains(tag)) {
                throw new OnnxFile.Wrong(what + " has a field " + (tag >> 3) + " that no network has");
            }
        }
    }
}
