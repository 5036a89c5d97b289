"""One table of models with right checksums that can't be used: Java refuses each as Python does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.errors import ArtefactError
from stream_scorer.model import artefact, params_file

pytestmark = [pytest.mark.jvm, pytest.mark.timeout(600)]
Change = Callable[[Any], object]


def spoilt_symbol(content: bytes, change: Change) -> bytes:
    graph = json.loads(content)
    change(graph)
    return json.dumps(graph).encode()


def spoilt_parameters(content: bytes, change: Change) -> bytes:
    parameters = {name: array.copy() for name, array in params_file.read(content).items()}
    change(parameters)
    return params_file.write(parameters)


# The probabilities of acting and of not acting change places, and so on.
SYMBOLS: dict[str, Change] = {
    "outputs in another order": lambda g: g["nodes"][-1]["inputs"].reverse(),
    "an operator of its own": lambda g: g["nodes"][-1].update(op="Custom"),
    "a name that MXNet does not know": lambda g: g.update(x=1),
}
PARAMETERS: dict[str, Change] = {
    "a weight that is not a number": lambda p: p["head_weight"].fill(np.nan),
    "categories of another model": lambda p: p["category_index"].fill(1),
    "one too many": lambda p: p.update(more=np.zeros(3, np.float32)),
    "one missing": lambda p: p.pop("head_bias"),
    "another shape": lambda p: p.update(head_weight=p["head_weight"].T),
}
MANIFESTS: dict[str, Change] = {
    "layers that are not whole numbers": lambda m: m["network"].update(hidden=[9.0, 5]),
    "a switch that is text": lambda m: m["network"].update(own_path="no"),
    "a tower that is text": lambda m: m["network"].update(tower="4"),
    "a member too many": lambda m: m["network"].update(width=4),
    "actions that are not groups": lambda m: m["labels"].update(actions=["ab"]),
    "classes that its labels do not have": lambda m: m.update(classes=-3),
}


@pytest.mark.parametrize("name", [*SYMBOLS, *PARAMETERS, *MANIFESTS])
def test_java_refuses_a_model_in_python_s_words(name, java, models, snapshot, tmp_path):
    model = Path(shutil.copytree(models("default"), tmp_path / "model"))
    symbol, parameters = model / artefact.SYMBOL_FILE, model / artefact.PARAMS_FILE
    manifest = json.loads((model / artefact.MANIFEST_FILE).read_text())
    if name in SYMBOLS:
        symbol.write_bytes(spoilt_symbol(symbol.read_bytes(), SYMBOLS[name]))
    elif name in PARAMETERS:
        parameters.write_bytes(spoilt_parameters(parameters.read_bytes(), PARAMETERS[name]))
    else:
        MANIFESTS[name](manifest)
    for file in (symbol, parameters):
        manifest["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    del manifest["checksum"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (model / artefact.MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError) as caught:
        artefact.load(model)
    done = java("score", model, snapshot, "--out", tmp_path / "new" / "scores")
    assert (done.returncode, done.stderr) == (2, f"stream-scorer: {caught.value}\n")
    assert not (tmp_path / "new").exists()
