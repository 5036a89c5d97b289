"""The symbol of a test's model, written without MXNet, so that its test needs none."""

from __future__ import annotations

import json

from stream_scorer.model.network_symbol import symbol
from stream_scorer.model.spec import Layout, NetworkSpec


def symbol_json(layout: Layout, spec: NetworkSpec) -> str:
    """What MXNet 1.9.1 saves for this network, node by node (test_network_symbol.py)."""
    return json.dumps({**symbol(layout, spec), "attrs": {"mxnet_version": ["int", 10901]}})
