"""What a saved symbol may contain, checked before MXNet or DJL reads it.

Right checksums say that an artefact was not damaged, not that its symbol is one of ours. MXNet's
own reader trusts a symbol: an operator that it does not know, or a node that refers to none, ends
in a C++ stack trace, and a symbol of another network scores without a word. So the graph is
checked here without MXNet: its operators, its references, and that its inputs are `data` and the
parameters that the manifest's network has. Where MXNet runs, its engine also compares the symbol
with the one that the manifest's network builds (`difference`). The Java program does the first of
these checks too (SymbolFile.java).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# Those that model/network.py uses for inference; a new one there is added here and in
# SymbolFile.java.
OPERATORS = frozenset(
    {
        "Concat", "FullyConnected", "Reshape", "_rminus_scalar", "batch_dot", "broadcast_add",
        "broadcast_mul", "broadcast_sub", "broadcast_to", "cast_storage", "dot", "elemwise_add",
        "null", "relu", "sigmoid", "slice", "slice_axis", "softmax", "stack", "take", "transpose",
        "zeros_like",
    }
)  # fmt: skip
INPUT = "data"
# The symbol of a network has some 70 nodes. A network of 20 layers and 50 own ranges would have
# fewer than 500.
MAX_NODES = 10_000
MAX_SHOWN = 60  # characters of a value from the file, in an error


class SymbolFileError(ValueError):
    """The text is not a symbol of this package; the message says why."""


def check(text: str, parameters: Iterable[str]) -> None:
    """Check a symbol's text; parameters: the names that its network has.

    Raises SymbolFileError.
    """
    graph = _json(text)
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        raise SymbolFileError("it has no list of nodes")
    nodes = graph["nodes"]
    if not 0 < len(nodes) <= MAX_NODES:
        raise SymbolFileError(f"it has {len(nodes)} nodes, from 1 to {MAX_NODES} are read")
    for number, node in enumerate(nodes):
        _check_node(number, node)
    inputs = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    if graph.get("arg_nodes") != inputs:
        raise SymbolFileError("its arg_nodes are not the nodes that have no operator")
    named, wanted = sorted(nodes[i]["name"] for i in inputs), sorted([INPUT, *parameters])
    if named != wanted:
        odd = sorted({*named, *wanted} - ({*named} & {*wanted})) or named
        raise SymbolFileError(
            f"its inputs are not `{INPUT}` and the parameters of the manifest's network: "
            f"{_shown(odd[0])}"
        )
    if graph.get("heads") != [[len(nodes) - 1, 0, 0]]:
        raise SymbolFileError(f"its heads are {_shown(graph.get('heads'))}, not its last node")


def difference(text: str, built: str) -> str | None:
    """How two symbols differ, in words; None where they do not. Both must be JSON."""
    found, wanted = json.loads(text), json.loads(built)
    nodes = list(zip(found["nodes"], wanted["nodes"], strict=False))
    for number, (node, right) in enumerate(nodes):
        if node != right:
            return f"node {number} is {_shown(node)}, not {_shown(right)}"
    if len(found["nodes"]) != len(wanted["nodes"]):
        return f"it has {len(found['nodes'])} nodes, not {len(wanted['nodes'])}"
    # `attrs` names the version of MXNet, which may be another one.
    rest = {"arg_nodes", "node_row_ptr", "heads"}
    odd = sorted(key for key in rest if found.get(key) != wanted.get(key))
    return f"its {odd[0]} differ" if odd else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    # Python's parser recurses, so thousands of nested brackets end in RecursionError.
    except (ValueError, RecursionError) as error:
        raise SymbolFileError(f"it is not JSON ({error})") from None


def _check_node(number: int, node: Any) -> None:
    if not isinstance(node, dict) or not isinstance(node.get("name"), str):
        raise SymbolFileError(f"node {number} has no name")
    operator = node.get("op")
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise SymbolFileError(f"node {number} has the unknown operator {_shown(operator)}")
    attributes = node.get("attrs", {})
    if not isinstance(attributes, dict) or not all(isinstance(v, str) for v in attributes.values()):
        raise SymbolFileError(f"node {number} has attributes that are not text")
    inputs = node.get("inputs")
    if not isinstance(inputs, list) or (operator == "null") != (not inputs):
        raise SymbolFileError(f"node {number} ({operator}) has the inputs {_shown(inputs)}")
    for reference in inputs:
        # MXNet writes nodes after those that they use, so a graph of this order has no circle.
        right = (
            isinstance(reference, list)
            and len(reference) == 3
            and all(type(part) is int for part in reference)
            and 0 <= reference[0] < number
            and reference[1:] == [0, 0]
        )
        if not right:
            raise SymbolFileError(
                f"node {number} ({operator}) refers to {_shown(reference)}, which is no output of "
                "a node before it"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
