"""The network that is trained: its logits are the reference's, its gradients those of the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.model import calibration, network_parameters, training_network
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.gathered_layer import NAMES, GatheredLayer
from stream_scorer.model.inputs import PAIRS_TOGETHER, NetworkInputs, TrendRows, symbol_table
from stream_scorer.model.loss import Loss
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.mxnet_memory import memory_to_read
from stream_scorer.model.spec import Layout, NetworkSpec, TrainingOptions
from stream_scorer.model.training_network import GATHERED
from tests.model import reference_network
from tests.model.conftest import CATEGORIES, THREE, TWO, random_matrix

INDEX = np.array([0, 2, 3, 7, 11])
ROWS = 7
FIRST_DAY = 20_000
SMALL: dict[str, Any] = {"hidden": (6, 4), "dropout": 0.0, "pooled": (5, 3)}
SPECS = {
    "all pairs": NetworkSpec(**SMALL),
    "history": NetworkSpec(**SMALL, pairs="history"),
    "history, tower, linear": NetworkSpec(**SMALL, pairs="history", tower=3, linear_rank=2),
    "own path alone": NetworkSpec((4,), 0.0, own_path=True, pooled=(), pairs="history"),
    "pooled path alone": NetworkSpec((4,), 0.0, own_path=False, pooled=(4,), pairs="history"),
    "neither": NetworkSpec((4,), 0.0, own_path=False, pooled=(), linear_rank=2),
    "no hidden layers": NetworkSpec((), 0.0, pairs="history", pooled=(4,), tower=3),
}


class Case:
    """A network with random parameters, rows for it, and the bound training symbol."""

    def __init__(self, space, rule, spec, *, trend=False, weighted=False, low_rank=False) -> None:
        self.layout = Layout.of(space, rule, INDEX)
        self.options = TrainingOptions(network=spec)
        draw = np.random.default_rng(0)
        self.matrix = random_matrix(space, ROWS, 5)
        self.contrasts = None
        rows = None
        if trend:
            days = FIRST_DAY + draw.integers(0, 3, ROWS)
            self.matrix = self.matrix.tolil()
            self.matrix[:, self.layout.trend[0]] = days[:, None]
            self.matrix = self.matrix.tocsr().astype(np.float32)
            shape = 3, self.layout.contrasts, len(CATEGORIES)
            table = draw.normal(0, 1, shape).astype(np.float32)
            self.contrasts = table[days - FIRST_DAY]
            rows = TrendRows(FIRST_DAY, table[:, :, INDEX], 0)
        self.labels = draw.integers(0, rule.classes, (ROWS, len(INDEX))).astype(np.float32)
        row, category = np.nonzero(self.labels)
        weight = draw.uniform(0.5, 2, ROWS) if weighted else np.ones(ROWS)
        self.rows = LabelledRows(
            [f"c{i}" for i in range(ROWS)], np.zeros(ROWS, np.int64), self.matrix,
            np.searchsorted(row, np.arange(ROWS + 1)), INDEX[category].astype(np.uint32),
            self.labels[row, category].astype(np.uint8), weight.astype(np.float32),
        )  # fmt: skip
        self.statistics = ColumnStatistics.of([self.rows], space, self.layout)
        self.parameters = {
            name: draw.normal(0, 0.4, shape).astype(np.float32)
            for name, shape in self.layout.shapes(spec).items()
        }
        self.symbol = training_network.training_symbol(
            self.layout, self.options, trend_days=3 if trend else 0
        )
        self.inputs = NetworkInputs(
            self.layout, spec, self.statistics, self.symbol.list_arguments(), rows
        )
        self.arrays, self.scaled, self.pairs = self.inputs.of(self.rows)
        if rows is not None:
            self.arrays[training_network.TREND_TABLE] = symbol_table([rows])

    def run(self, parameters=None, class_weights=()):
        """Forward and backward: logits (B, N, M), and gradients by parameter."""
        parameters = self.parameters if parameters is None else parameters
        values = dict(self.arrays)
        names = self.symbol.list_arguments()
        free = [n for n in names if n in parameters]
        layers = {n: parameters[n] for n in NAMES if n in parameters}
        if GATHERED in names:
            GatheredLayer(layers, 1.0, {}).gather(self.scaled, values[GATHERED])
            free.append(GATHERED)
        executor = self.symbol.simple_bind(
            mx.cpu(), **{n: v.shape for n, v in values.items() if n in names},
            grad_req={n: "write" if n in free else "null" for n in names},
        )  # fmt: skip
        for name, value in {**parameters, **values}.items():
            if name in executor.arg_dict:
                mx.nd.array(value, dtype=np.float32).copyto(executor.arg_dict[name])
        outputs = [memory_to_read(o) for o in executor.forward(is_train=True)]
        loss = Loss(INDEX, self.layout.vocabulary, self.layout.classes, class_weights)
        written = [np.full_like(output, np.nan) for output in outputs]
        if self.pairs is not None:
            loss.add_pairs(outputs[0], outputs[1], self.pairs)
        of_pair = written[1] if self.pairs is not None else None
        loss.gradients(outputs[0], self.rows, self.pairs, written[0], of_pair)
        executor.backward([mx.nd.array(w) for w in written])
        logits = outputs[0].reshape(ROWS, len(INDEX), -1).copy()
        found = {n: executor.grad_dict[n].asnumpy() for n in free}
        if layers:
            # What GatheredLayer adds up of it, as tests/model/test_gathered_layer.py says.
            by_column = self.scaled.T @ found.pop(GATHERED)
            stops = np.cumsum([value.shape[1] for value in layers.values()])[:-1]
            found |= dict(zip(layers, np.split(by_column, stops, axis=1), strict=True))
        return logits, found

    def for_columns_as_they_come(self):
        """The parameters as an artefact has them, without calibration."""
        folded = network_parameters.fold_column_scale(
            self.layout, self.parameters, self.statistics.column_scale
        )
        folded["customer_mean"] = self.statistics.customer_mean[None]
        folded["customer_scale"] = self.statistics.customer_scale[None]
        return folded


@pytest.fixture(params=[TWO, THREE], ids=["two classes", "three classes"])
def rule(request):
    return request.param


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_its_logits_are_those_of_the_reference(spec, rule, space):
    case = Case(space, rule, spec)
    logits, _ = case.run()
    shares = reference_network.paths(
        case.layout, spec, case.for_columns_as_they_come(), case.matrix
    )
    np.testing.assert_allclose(logits, sum(shares.values()), atol=1e-4, rtol=1e-4)


def test_with_a_trend_they_are_those_of_the_reference(rule):
    space = FeatureSpace.compile(
        [
            Feature("total", half_lives=("2d",)),
            Feature("bought", on=("purchase",), by=("category_id",), half_lives=("2d", "90d")),
            Feature("trend", "trend", on=("purchase",), by=("category_id",),
                    half_lives=("2d", "14d", "90d")),
        ],
        {"category_id": CATEGORIES},
    )  # fmt: skip
    case = Case(space, rule, SPECS["history, tower, linear"], trend=True)
    logits, gradients = case.run()
    shares = reference_network.paths(
        case.layout, case.options.network, case.for_columns_as_they_come(), case.matrix,
        case.contrasts,
    )  # fmt: skip
    np.testing.assert_allclose(logits, sum(shares.values()), atol=1e-4, rtol=1e-4)
    assert gradients["trend_weight"].any()


@pytest.mark.parametrize("name", ["all pairs", "history, tower, linear", "no hidden layers"])
def test_gradients_are_those_of_the_cross_entropy(name, rule, space):
    case = Case(space, rule, SPECS[name], weighted=True)

    def loss(values) -> float:
        logits, _ = case.run(values)
        each = calibration.cross_entropy(logits.astype(np.float64), case.labels.astype(np.uint8))
        return float((each * case.rows.weight).sum()) * len(INDEX)

    _, gradients = case.run()
    draw = np.random.default_rng(1)
    assert {"head_weight", "head_bias"} <= gradients.keys()
    step = 3e-4  # with a larger one, hidden units change sides within it
    for parameter, gradient in gradients.items():
        direction = draw.choice([-1.0, 1.0], gradient.shape)
        up, down = (
            loss({**case.parameters, parameter: case.parameters[parameter] + signed * direction})
            for signed in (step, -step)
        )
        expected = (up - down) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=0.05, abs=0.05)


def test_its_loss_is_that_of_one_softmax_output_for_each_category(rule, space):
    """MXNet's own SoftmaxOutput for each of N categories: the gradients of its inputs."""
    case = Case(space, rule, SPECS["history, tower, linear"])
    logits, _ = case.run()
    every = np.concatenate([np.zeros_like(logits[:, :, :1]), logits], axis=2)
    loss = Loss(INDEX, case.layout.vocabulary, rule.classes)
    dense = logits.reshape(ROWS, -1)
    found = np.empty_like(dense)
    loss.gradients(dense, case.rows, None, found, None)
    for n in range(len(INDEX)):
        head = mx.sym.SoftmaxOutput(mx.sym.Variable("x"), mx.sym.Variable("label"))
        executor = head.simple_bind(mx.cpu(), x=(ROWS, rule.classes), grad_req="write")
        executor.forward(
            is_train=True, x=mx.nd.array(every[:, n]), label=mx.nd.array(case.labels[:, n])
        )
        executor.backward()
        np.testing.assert_allclose(
            found.reshape(logits.shape)[:, n], executor.grad_dict["x"].asnumpy()[:, 1:],
            atol=1e-6,
        )  # fmt: skip


def test_class_weights_of_one_change_nothing_and_others_scale(rule, space):
    case = Case(space, rule, SPECS["history"])
    _, expected = case.run()
    _, even = case.run(class_weights=(1.0,) * rule.classes)
    _, double = case.run(class_weights=(2.0,) * rule.classes)
    for name, gradient in expected.items():
        np.testing.assert_array_equal(even[name], gradient)
        np.testing.assert_allclose(double[name], 2 * gradient, atol=4e-5, rtol=1e-4)


def test_each_class_has_its_weight(rule, space):
    case = Case(space, rule, SPECS["neither"])
    weights = tuple(float(k + 1) for k in range(rule.classes))
    _, plain = case.run()
    _, weighted = case.run(class_weights=weights)
    truth = case.labels.astype(int)
    loss = Loss(INDEX, case.layout.vocabulary, rule.classes)
    logits, _ = case.run()
    dense = logits.reshape(ROWS, -1)
    one = np.empty_like(dense)
    loss.gradients(dense, case.rows, None, one, None)
    scaled = one.reshape(logits.shape) * np.array(weights)[truth][:, :, None]
    np.testing.assert_allclose(
        weighted["head_bias"], scaled.sum(axis=0).reshape(-1), atol=1e-5, rtol=1e-4
    )
    assert not np.allclose(weighted["head_bias"], plain["head_bias"])


def test_untrained_network_answers_with_the_prior(space):
    case = Case(space, TWO, SPECS["history, tower, linear"])
    prior = np.array([-3, -2, -1, 0, 1], np.float32)
    parameters = network_parameters.initial_parameters(
        case.layout, case.options.network, head_bias=prior, entries_per_row=10.0, seed=4
    )
    logits, _ = case.run(parameters)
    np.testing.assert_allclose(logits[:, :, 0], np.tile(prior, (ROWS, 1)), atol=1e-6)


def test_pairs_are_those_with_a_value_in_an_own_column(space):
    case = Case(space, TWO, SPECS["history"])
    own = np.stack([case.matrix[:, a:b].toarray()[:, INDEX] for a, b in case.layout.own], axis=2)
    row, category = np.nonzero((own != 0).any(axis=2))
    found = set(zip(case.arrays["pair_row"], case.arrays["pair_category"], strict=True))
    found.discard((0, len(INDEX)))
    assert found == set(zip(row, category, strict=True))
    assert len(case.arrays["pair_row"]) == PAIRS_TOGETHER


def test_an_explicit_zero_is_no_history(space):
    case = Case(space, TWO, SPECS["history"])
    first = case.layout.own[0][0] + int(INDEX[0])
    case.matrix.data[case.matrix.indices == first] = 0
    own = np.stack([case.matrix[:, a:b].toarray()[:, INDEX] for a, b in case.layout.own], axis=2)
    found = case.inputs.of(case.rows).pairs
    assert found is not None
    assert case.pairs is not None
    assert len(found.row) == (own != 0).any(axis=2).sum() < len(case.pairs.row)
