"""The network as it is trained: an MXNet Module behind the layer that meets the CSR matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_scorer.core.features.state import Float32
from stream_scorer.model import training_network
from stream_scorer.model.batches import descriptions
from stream_scorer.model.gathered_layer import NAMES, GatheredLayer
from stream_scorer.model.inputs import NetworkInputs
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.mxnet_memory import memory_to_read, memory_to_write
from stream_scorer.model.network_parameters import Parameters
from stream_scorer.model.spec import TrainingOptions


class TrainingModule:
    """The symbol, bound for batches of options.batch_rows rows, with values and optimizer.

    inputs: which arrays a batch has. start: every parameter's first value, by name. schedule: the
    learning rate of a step, the first of which is 1. decay: as of GatheredLayer.
    """

    def __init__(
        self,
        symbol: Any,
        inputs: NetworkInputs,
        options: TrainingOptions,
        start: Mapping[str, Float32],
        schedule: Any,
        decay: Mapping[str, Float32],
    ) -> None:
        names, rows = set(symbol.list_arguments()), options.batch_rows
        shapes = inputs.shapes(rows)
        gathered = training_network.GATHERED in names
        self._module = mx.mod.Module(
            symbol, data_names=list(shapes), label_names=None,
            fixed_param_names=[n for n in (training_network.TREND_TABLE,) if n in names],
        )  # fmt: skip
        self._module.bind(descriptions(shapes), None, inputs_need_grad=gathered)
        first = {n: mx.nd.array(a, dtype=np.float32) for n, a in start.items() if n in names}
        self._module.init_params(None, arg_params=first)
        self._module.init_optimizer(
            kvstore=None,  # one process: a key-value store would only copy gradients
            optimizer="adam",
            optimizer_params={
                "learning_rate": options.learning_rate,
                "lr_scheduler": schedule,
                "wd": options.weight_decay,
                # The gradients are sums over the rows of a batch.
                "rescale_grad": 1.0 / rows,
            },
        )
        self._layer = None
        if gathered:
            self._layer = GatheredLayer(
                {n: start[n] for n in NAMES if n in start}, 1.0 / rows, decay
            )
        self._schedule, self._share = schedule, options.input_learning_rate
        self._steps, self._matrix = 0, None

    def forward(self, batch: Any, *, is_train: bool) -> None:
        """Compute the logits of a batch of LabelledBatches."""
        if self._layer is not None:
            self._matrix = batch.matrix
            self._layer.gather(batch.matrix, memory_to_write(batch.data[0]))
        self._module.forward(batch, is_train=is_train)

    def outputs(self) -> list[Any]:
        """The symbol's outputs for the last batch; MXNet may still be computing them."""
        found: list[Any] = self._module.get_outputs()
        return found

    def backward(self, gradients: list[Any]) -> None:
        """Begin to compute all gradients by those of the outputs."""
        self._module.backward(gradients)

    def update(self) -> None:
        """One step of all parameters."""
        self._steps += 1
        self._module.update()
        if self._layer is not None:
            gradient = memory_to_read(self._module.get_input_grads()[0])
            self._layer.update(self._matrix, gradient, self._schedule(self._steps) * self._share)

    def finish(self) -> None:
        """Give up memory that only steps need: none follows."""
        if self._layer is not None:
            self._layer.finish()

    def parameters(self) -> Parameters:
        """Copies of every parameter, by name."""
        found = {n: a.asnumpy() for n, a in self._module.get_params()[0].items()}
        return found if self._layer is None else {**found, **self._layer.weights()}

    def restore(self, parameters: Mapping[str, Float32]) -> None:
        """Put back what `parameters` gave."""
        own = {n: mx.nd.array(a) for n, a in parameters.items() if n not in NAMES}
        self._module.set_params(own, {})
        if self._layer is not None:
            self._layer.restore(parameters)
