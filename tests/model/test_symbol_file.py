"""Symbols: those of our networks pass, and everything else is one line before MXNet sees it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact, symbol_file
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.model.spec import NetworkSpec

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


@pytest.fixture
def graph(make_model):
    return json.loads(make_model().symbol_json)


def refusal(graph, parameters) -> str:
    with pytest.raises(symbol_file.SymbolFileError) as caught:
        symbol_file.check(json.dumps(graph), parameters)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("index", [(0, 2, 3), tuple(range(12))], ids=["some", "all"])
def test_every_network_has_a_symbol_that_passes(make_model, spec, index):
    model = make_model(spec=spec, index=index)
    symbol_file.check(model.symbol_json, model.parameters)
    assert symbol_file.difference(model.symbol_json, model.symbol_json) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g["nodes"][5].update(op="Custom"), "node 5 has the unknown operator 'Custom'"),
        (lambda g: g["nodes"][5].update(op=None), "unknown operator None"),
        (lambda g: g["nodes"][-1].update(inputs=[[999, 0, 0]]), "refers to [999, 0, 0]"),
        (lambda g: g["nodes"][-1].update(inputs=[[-1, 0, 0]]), "refers to [-1, 0, 0]"),
        (lambda g: g["nodes"][-1].update(inputs=[[0, 7, 0]]), "refers to [0, 7, 0]"),
        (lambda g: g["nodes"][0].update(name="other"), "inputs are not `data`"),
        (lambda g: g["nodes"][0].update(name=["x"]), "node 0 has no name"),
        (lambda g: g["nodes"].clear(), "it has 0 nodes"),
        (lambda g: g.update(nodes=[{}] * 20_000), "it has 20000 nodes"),
        (lambda g: g.pop("nodes"), "no list of nodes"),
        (lambda g: g.update(heads=[[0, 0, 0]]), "its heads are [[0, 0, 0]]"),
        (lambda g: g["arg_nodes"].pop(), "arg_nodes"),
        (lambda g: g["nodes"][5].update(attrs={"dim": 1}), "attributes that are not text"),
    ],
)
def test_what_no_network_of_ours_has_is_named(graph, make_model, change, said):
    change(graph)
    assert said in refusal(graph, make_model().parameters)


def test_junk_anywhere_in_a_symbol_is_refused_or_harmless(graph, make_model):
    parameters = make_model().parameters
    refused = 0
    for number, node in enumerate(graph["nodes"]):
        for key in ("op", "name", "attrs", "inputs"):
            for junk in JUNK:
                spoilt = copy.deepcopy(graph)
                spoilt["nodes"][number][key] = junk
                if spoilt["nodes"][number] == node:
                    continue
                try:
                    symbol_file.check(json.dumps(spoilt), parameters)
                except symbol_file.SymbolFileError:
                    refused += 1
    assert refused > 1000


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000], ids=range(5))
def test_what_is_no_symbol_is_refused(text, make_model):
    with pytest.raises(symbol_file.SymbolFileError):
        symbol_file.check(text, make_model().parameters)


def test_mxnet_refuses_the_symbol_of_another_network(make_model, tmp_path):
    """Its operators and inputs are right; one of its numbers is not."""
    model = make_model()
    wrong = model.symbol_json.replace('"num_hidden": "5"', '"num_hidden": "-5"')
    assert wrong != model.symbol_json
    artefact.save(make_model(), tmp_path / "right")
    open_engine(artefact.load(tmp_path / "right"), "mxnet").warm_up(1)
    artefact.save(type(model)(**{**vars(model), "symbol_json": wrong}), tmp_path / "wrong")
    with pytest.raises(ArtefactError, match="is not the symbol of the manifest's network: node"):
        open_engine(artefact.load(tmp_path / "wrong"), "mxnet")
