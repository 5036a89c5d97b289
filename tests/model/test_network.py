"""The symbol: its gradients, and the fused form against one head for each category."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.model import calibration, inference_network, network
from stream_scorer.model.batches import csr_ndarray
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import Layout, NetworkSpec
from tests.model.conftest import THREE, TWO

INDEX = np.array([0, 2, 3, 7, 11])
SPEC = NetworkSpec(hidden=(6, 4), dropout=0.0, pooled=(5, 3))
ROWS = 7


def bound(symbol, layout, parameters, matrix, labels):
    """Run forward and backward once: outputs, and gradients by parameter."""
    free = [n for n in symbol.list_arguments() if n in parameters and n not in network.FIXED]
    executor = symbol.simple_bind(
        mx.cpu(), data=matrix.shape, **{k: v.shape for k, v in labels.items()},
        grad_req={n: "write" if n in free else "null" for n in symbol.list_arguments()},
    )  # fmt: skip
    csr_ndarray(matrix).copyto(executor.arg_dict["data"])
    for name, value in {**parameters, **labels}.items():
        if name in executor.arg_dict:
            array = mx.nd.array(value, dtype=np.float32)
            target = executor.arg_dict[name]
            (array.tostype("row_sparse") if target.stype == "row_sparse" else array).copyto(target)
    outputs = executor.forward(is_train=True)
    executor.backward()
    return [o.asnumpy() for o in outputs], {n: executor.grad_dict[n].asnumpy() for n in free}


@pytest.fixture(params=[TWO, THREE], ids=["two classes", "three classes"])
def case(request, space, make_matrix):
    rule = request.param
    layout = Layout.of(space, rule, INDEX)
    draw = np.random.default_rng(0)
    parameters = {
        name: draw.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in layout.shapes(SPEC).items()
    }
    parameters["category_index"] = INDEX.astype(np.float32)
    parameters["column_scale"] = np.repeat(
        draw.uniform(0.5, 2, len(space.blocks)), [b.stop - b.start for b in space.blocks]
    ).astype(np.float32)[None]
    labels = draw.integers(0, rule.classes, (ROWS, len(INDEX))).astype(np.float32)
    return layout, parameters, make_matrix(ROWS, 5), labels


def test_fused_head_equals_one_softmax_for_each_category(case):
    layout, parameters, matrix, labels = case
    fused, fused_gradients = bound(
        network.training_symbol(layout, SPEC), layout, parameters, matrix, {"label": labels}
    )
    heads, gradients = bound(
        network.separate_heads_symbol(layout, SPEC), layout, parameters, matrix,
        {f"label{i}": column for i, column in enumerate(labels.T)},
    )  # fmt: skip
    every = np.stack(heads, axis=1)
    if layout.classes == 2:
        np.testing.assert_allclose(fused[0], every[:, :, 1], atol=1e-6)
    else:
        np.testing.assert_allclose(fused[0], every, atol=1e-6)
    assert set(gradients) == set(fused_gradients)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(fused_gradients[name], gradient, atol=2e-5, rtol=1e-4)


def test_gradients_are_those_of_the_cross_entropy(case):
    layout, parameters, matrix, labels = case
    symbol = network.training_symbol(layout, SPEC)

    def loss(values) -> float:
        outputs, _ = bound(symbol, layout, values, matrix, {"label": labels})
        shaped = outputs[1].reshape(ROWS, layout.categories, layout.actions)
        return float(calibration.cross_entropy(shaped, labels.astype(np.uint8)).sum()) * len(INDEX)

    _, gradients = bound(symbol, layout, parameters, matrix, {"label": labels})
    draw = np.random.default_rng(1)
    for name, gradient in gradients.items():
        direction = draw.choice([-1.0, 1.0], gradient.shape)
        up, down = (
            loss({**parameters, name: (parameters[name] + e * direction).astype(np.float32)})
            for e in (1e-3, -1e-3)
        )
        assert (gradient * direction).sum() == pytest.approx((up - down) / 2e-3, rel=0.05, abs=0.05)


def test_class_weights_of_one_change_nothing_and_others_scale(case):
    layout, parameters, matrix, labels = case
    truth = {"label": labels}
    plain = network.training_symbol(layout, SPEC)
    _, expected = bound(plain, layout, parameters, matrix, truth)
    even = network.training_symbol(layout, SPEC, class_weights=(1.0,) * layout.classes)
    _, found = bound(even, layout, parameters, matrix, truth)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=2e-5, rtol=1e-4)
    double = network.training_symbol(layout, SPEC, class_weights=(2.0,) * layout.classes)
    _, found = bound(double, layout, parameters, matrix, truth)
    np.testing.assert_allclose(found["head_bias"], 2 * expected["head_bias"], atol=4e-5, rtol=1e-4)


def test_folded_parameters_give_the_same_probabilities(case):
    layout, parameters, matrix, labels = case
    scale = parameters["column_scale"][0]
    parameters["calibration_scale"][:] = 1
    parameters["calibration_shift"][:] = 0
    trained, _ = bound(
        network.training_symbol(layout, SPEC), layout, parameters, matrix, {"label": labels}
    )
    folded = network.fold_column_scale(layout, parameters, scale)
    symbol = inference_network.inference_symbol(layout, SPEC)
    arguments = {
        name: mx.nd.array(folded[name], dtype=np.float32)
        for name in symbol.list_arguments()
        if name != "data"
    }
    executor = symbol.bind(mx.cpu(), {**arguments, "data": csr_ndarray(matrix)}, grad_req="null")
    scores = executor.forward()[0].asnumpy()
    expected = trained[0] if layout.classes > 2 else np.stack([1 - trained[0], trained[0]], axis=2)
    np.testing.assert_allclose(scores, expected, atol=2e-6)


def test_untrained_network_answers_with_the_prior(space, make_matrix):
    layout = Layout.of(space, TWO, INDEX)
    prior = np.array([-3, -2, -1, 0, 1], np.float32)
    parameters = network.initial_parameters(
        layout, SPEC, head_bias=prior, entries_per_row=10.0, seed=4
    )
    parameters["column_scale"] = np.ones((1, layout.columns), np.float32)
    (_, logits), _ = bound(
        network.training_symbol(layout, SPEC), layout, parameters, make_matrix(ROWS, 6),
        {"label": np.zeros((ROWS, 5), np.float32)},
    )  # fmt: skip
    np.testing.assert_allclose(logits, np.tile(prior, (ROWS, 1)), atol=1e-6)
