"""A saved symbol is compared with the one that the manifest's network has, before MXNet reads it.

Right checksums say that an artefact was not damaged, not that its symbol is one of ours. MXNet's
own reader trusts a symbol: an operator that it does not know ends in a C++ stack trace, and a
symbol of another network, or one whose outputs have another order, scores without a word. So the
symbol has to be the one of network_symbol.py, node by node, and hold nothing besides.
SymbolFile.java does the same.
"""

from __future__ import annotations

from typing import Any

from stream_scorer.manifests import parse_json
from stream_scorer.model.network_symbol import symbol
from stream_scorer.model.spec import Layout, NetworkSpec

# A network with all paths, of 200 layers, 100 own and 100 customer-wide ranges, has 1,500 nodes and
# 260 kB.
MAX_BYTES = 1 << 20
MAX_SHOWN = 60  # characters of a value from the file, in an error


class SymbolFileError(ValueError):
    """The text is not the symbol of this network; the message says why."""


def check(content: bytes, layout: Layout, spec: NetworkSpec) -> None:
    """Check a symbol's bytes. Raises SymbolFileError."""
    try:
        graph = parse_json(content)
    except ValueError as error:
        raise SymbolFileError(str(error)) from None
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        raise SymbolFileError("it has no list of nodes")
    wanted = symbol(layout, spec)
    # Strict, because MXNet takes no byte order mark.
    if content[:1] != b"{":
        raise SymbolFileError("it does not begin with {")
    for number, (node, right) in enumerate(zip(graph["nodes"], wanted["nodes"], strict=False)):
        if not _same(_node(node), right):
            raise _different(f"its node {number} is another")
    if len(graph["nodes"]) != len(wanted["nodes"]):
        raise _different(f"it has {len(graph['nodes'])} nodes, not {len(wanted['nodes'])}")
    for name in ("arg_nodes", "node_row_ptr", "heads"):
        if not _same(graph.get(name), wanted[name]):
            raise _different(f"its {name} are others")
    # MXNet's reader knows these names alone; `attrs` has the version that wrote the symbol.
    odd = sorted(graph.keys() - wanted.keys() - {"attrs"})
    if odd:
        raise _different(f"it has a member {odd[0][:MAX_SHOWN]!r}")
    if not _is_version(graph.get("attrs", {})):
        raise _different("its attrs are others")


def _different(why: str) -> SymbolFileError:
    return SymbolFileError(f"it is not the symbol of the manifest's network: {why}")


def _node(node: Any) -> Any:
    """A node without empty attributes, which MXNet writes as none."""
    if isinstance(node, dict) and node.get("attrs") == {}:
        return {key: value for key, value in node.items() if key != "attrs"}
    return node


def _same(found: Any, right: Any) -> bool:
    """Equality that knows 1 from 1.0 and True."""
    if type(found) is not type(right):
        return False
    if isinstance(right, dict):
        return found.keys() == right.keys() and all(_same(found[k], v) for k, v in right.items())
    if isinstance(right, list):
        return len(found) == len(right) and all(map(_same, found, right))
    return bool(found == right)


def _is_version(attrs: Any) -> bool:
    if not isinstance(attrs, dict) or not attrs.keys() <= {"mxnet_version"}:
        return False
    version = attrs.get("mxnet_version", ["int", 0])
    return (
        isinstance(version, list)
        and len(version) == 2
        and version[0] == "int"
        and type(version[1]) is int
        and 0 <= version[1] < 2**31
    )
