"""Symbols: those of our networks pass, and everything else is one line before MXNet sees it."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact, symbol_file
from stream_scorer.model.spec import Layout, NetworkSpec

NETWORKS = {
    "default": NetworkSpec(),
    "no deep path": NetworkSpec(hidden=()),
    "own path alone": NetworkSpec(hidden=(9,), pooled=()),
    "deep path alone": NetworkSpec(hidden=(64, 32), own_path=False, pooled=()),
}
JUNK: list[Any] = [
    None,
    -1,
    10**12,
    0.5,
    "x",
    [],
    {},
    [[]],
    [[0, 0, 0]],
    [[-1, 0, 0]],
    [[999, 0, 0]],
    True,
]


def check(model, content: bytes) -> None:
    layout = Layout.of(model.space, model.labels, np.array(model.category_index))
    symbol_file.check(content, layout, model.network)


@pytest.fixture
def graph(make_model):
    return json.loads(make_model().symbol_json)


def refusal(model, content: bytes) -> str:
    with pytest.raises(symbol_file.SymbolFileError) as caught:
        check(model, content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("index", [(0, 2, 3), tuple(range(12))], ids=["some", "all"])
def test_every_network_has_a_symbol_that_passes(make_model, spec, index):
    model = make_model(spec=spec, index=index)
    check(model, model.symbol_json.encode())


def last(graph):
    return graph["nodes"][-1]


CHANGES = [
    (lambda g: g["nodes"][5].update(op="Custom"), "its node 5 is another"),
    (lambda g: g["nodes"][5].update(op=None), "its node 5 is another"),
    (lambda g: last(g).update(inputs=[[999, 0, 0]]), "is another"),
    # The probabilities of acting and of not acting change places.
    (lambda g: last(g)["inputs"].reverse(), "is another"),
    (lambda g: last(g)["inputs"][0].__setitem__(1, False), "is another"),
    (lambda g: last(g)["inputs"][0].__setitem__(1, 0.0), "is another"),
    (lambda g: g["nodes"][0].update(name="other"), "its node 0 is another"),
    (lambda g: g["nodes"][0].update(name=["x"]), "its node 0 is another"),
    (lambda g: g["nodes"][6].update(attrs={"__ctx_group__": "x"}), "its node 6 is another"),
    (lambda g: g["nodes"][6].update(subgraphs=[]), "its node 6 is another"),
    (lambda g: g["nodes"].clear(), "it has 0 nodes"),
    (lambda g: g["nodes"].append({"op": "relu", "name": "x", "inputs": [[3, 0, 0]]}), "nodes, not"),
    (lambda g: g.pop("nodes"), "no list of nodes"),
    (lambda g: g.update(heads=[[0, 0, 0]]), "its heads are others"),
    (lambda g: g["arg_nodes"].pop(), "its arg_nodes are"),
    (lambda g: g.pop("node_row_ptr"), "its node_row_ptr are others"),
    (lambda g: g.update(x=float("nan")), "it has a member 'x'"),
    (lambda g: g["attrs"].update(deep={"a": 1}), "its attrs are"),
    (lambda g: g["attrs"].update(mxnet_version=["int", 1e9]), "its attrs are"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_what_the_network_does_not_have_is_named(graph, make_model, change, said):
    change(graph)
    assert said in refusal(make_model(), json.dumps(graph).encode())


def test_junk_anywhere_in_a_symbol_is_refused(graph, make_model):
    model = make_model()
    for number, node in enumerate(graph["nodes"]):
        for key in ("op", "name", "attrs", "inputs"):
            for junk in JUNK:
                spoilt = copy.deepcopy(graph)
                spoilt["nodes"][number][key] = junk
                if node.get(key, {}) != junk:
                    assert refusal(model, json.dumps(spoilt).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "{",
        lambda text: "[]",
        lambda text: "null",
        lambda text: "[" * 100_000,
        lambda text: "\ufeff" + text,
        lambda text: text + "{}",
        lambda text: text.replace('"heads"', '"heads": [[0, 0, 0]], "heads"'),
        lambda text: text.replace('"', "'"),
        lambda text: "/* x */" + text,
    ],
    ids=range(10),
)
def test_what_is_no_symbol_is_refused(change, make_model):
    model = make_model()
    changed = change(model.symbol_json)
    if changed != model.symbol_json:
        assert refusal(model, changed.encode())


def test_an_artefact_with_the_symbol_of_another_network_is_refused(make_model, tmp_path):
    """Its operators and inputs are right; one of its numbers is not."""
    model = make_model()
    wrong = model.symbol_json.replace('"num_hidden": "5"', '"num_hidden": "-5"')
    assert wrong != model.symbol_json
    artefact.save(type(model)(**{**vars(model), "symbol_json": wrong}), tmp_path / "wrong")
    with pytest.raises(
        ArtefactError, match="it is not the symbol of the manifest's network: its node"
    ):
        artefact.load(tmp_path / "wrong")
