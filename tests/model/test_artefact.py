"""Artefacts: written whole or not at all, and every defect is one clear line."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
import pytest

from stream_scorer.errors import ArtefactError, FingerprintMismatch
from stream_scorer.model import artefact, params_file
from stream_scorer.model.spec import Layout

FILES = artefact.FILES


@pytest.fixture
def saved(make_model, tmp_path):
    path = tmp_path / "models" / "m1"
    artefact.save(make_model(metrics={"validation_log_loss": 0.25}), path, {"snapshots": ["s"]})
    return path


def rewrite_manifest(path, change):
    """Change the manifest and give it a checksum that is right again."""
    file = path / artefact.MANIFEST_FILE
    raw = json.loads(file.read_text())
    raw.pop("checksum")
    change(raw)
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps({**raw, "checksum": checksum}))


def refusal(path, **keywords) -> str:
    with pytest.raises(ArtefactError) as caught:
        artefact.load(path, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_is_loaded_again(saved, space, make_model):
    loaded = artefact.load(saved, space.fingerprint)
    model = make_model()
    assert sorted(p.name for p in saved.iterdir()) == sorted(FILES)
    assert loaded.manifest.categories == ("c00", "c02", "c03", "c07", "c11")
    assert loaded.manifest.metrics == {"validation_log_loss": 0.25}
    assert loaded.manifest.training == {"snapshots": ["s"]}
    assert loaded.manifest.labels == model.labels
    assert loaded.layout == Layout.of(space, model.labels, model.category_index)
    assert loaded.feature_space().fingerprint == space.fingerprint == loaded.fingerprint
    for name, values in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], values)


def test_the_same_model_has_the_same_version_and_bytes(saved, make_model, tmp_path):
    other = tmp_path / "again"
    manifest = artefact.save(make_model(metrics={"validation_log_loss": 0.25}), other)
    assert manifest.model_version == artefact.load(saved).manifest.model_version
    for name in FILES[1:]:
        assert (other / name).read_bytes() == (saved / name).read_bytes()
    model = make_model()
    model.parameters["head_bias"][0] += 1
    assert artefact.save(model, tmp_path / "third").model_version != manifest.model_version


def test_mxnet_loads_it_as_a_checkpoint_of_its_own(saved):
    from stream_scorer.model.mxnet_loader import mx  # noqa: PLC0415 - only this test needs it

    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(saved / "model"), 0)
    assert set(symbol.list_arguments()) == {"data", *arguments}
    assert not auxiliary


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    assert name in refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_noticed(saved, name):
    whole = (saved / name).read_bytes()
    draw = np.random.default_rng(0)
    for bit in draw.integers(0, 8 * len(whole), 60).tolist():
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        (saved / name).write_bytes(bytes(broken))
        if loads(saved):  # a space between two values that became another kind of space
            manifest = artefact.load(saved).manifest
            (saved / name).write_bytes(whole)
            assert manifest == artefact.load(saved).manifest


def loads(path) -> bool:
    try:
        artefact.load(path)
    except ArtefactError:
        return False
    return True


def test_other_features_are_refused_with_the_remedy(saved):
    with pytest.raises(FingerprintMismatch, match="replay into a new namespace"):
        artefact.load(saved, 12345)


def test_a_version_from_the_future_says_upgrade(saved):
    rewrite_manifest(saved, lambda raw: raw.update(format=99, surprise=True))
    assert "upgrade" in refusal(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.pop("categories"), "categories"),
        (lambda raw: raw.update(classes="two"), "classes"),
        (lambda raw: raw.update(labels={}), "contradicts itself: 'by'"),
        (lambda raw: raw.update(network={"depth": 3}), "network.hidden has a value of another"),
        (lambda raw: raw["network"].update(hidden=[9.0, 5]), "network.hidden"),
        (lambda raw: raw["network"].update(own_path="no"), "network.own_path"),
        (lambda raw: raw["network"].update(hidden=[1] * 200), "at most 100 layers"),
        (lambda raw: raw["network"].update(hidden=[10**12]), "model-0000.params"),
        (lambda raw: raw["labels"].update(actions=["ab"]), "labels.actions"),
        (lambda raw: raw["labels"].update(horizon_ms=10**30), "labels.horizon_ms"),
        (lambda raw: raw.update(format=True), "not a model's manifest"),
        (lambda raw: raw.update(category_index=[False, 2, 3, 7, 11]), "category_index has a value"),
        (lambda raw: raw.update(category_index=[], categories=[]), "its categories are none"),
        (lambda raw: raw.update(model_version="../../../../tmp/x"), "not 16 hexadecimal digits"),
        (lambda raw: raw.update(fingerprint="0" * 16), "do not belong together"),
        (lambda raw: raw.update(category_index=[0, 1, 2, 3, 99]), "contradicts itself"),
        (lambda raw: raw.update(category_index=[0, 2, 3, 7, -1]), "contradicts itself"),
        (lambda raw: raw.update(category_index=[2, 0, 3, 7, 11]), "do not belong together"),
        (lambda raw: raw.update(classes=-3), "classes is -3, its labels have 2"),
        (lambda raw: raw.update(classes=3), "classes is 3, its labels have 2"),
        (lambda raw: raw["network"].update(hidden=[8, 5]), "hidden1_weight has the shape 5 x 9"),
        (lambda raw: raw.update(files={}), "does not list"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(saved, change, said):
    rewrite_manifest(saved, change)
    assert said in refusal(saved)


JUNK: list[Any] = [None, -3, 1e300, "x", "", [], {}, [[]], [None], {"x": [1]}, [-1], [2**70], True]


def places(value, path=()):
    """The path of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in inside:
        yield (*path, key)
        if isinstance(entry, dict | list):
            yield from places(entry, (*path, key))


def test_a_manifest_with_junk_anywhere_is_refused_or_loads(saved):
    """Every value of the manifest in turn becomes every kind of junk, with a right checksum."""
    content = (saved / artefact.MANIFEST_FILE).read_text()
    refused = 0
    for path in places(json.loads(content)):
        for junk in JUNK:

            def spoil(raw, path=path, junk=junk):
                for key in path[:-1]:
                    raw = raw[key]
                raw[path[-1]] = junk

            rewrite_manifest(saved, spoil)
            try:
                artefact.load(saved)
            except ArtefactError:
                refused += 1
            (saved / artefact.MANIFEST_FILE).write_text(content)
    assert refused > 500


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": "one"}', "[" * 100_000], ids=range(6)
)
def test_what_is_no_manifest_is_refused(saved, text):
    (saved / artefact.MANIFEST_FILE).write_text(text)
    assert refusal(saved)


def replace_file(path, name, content: bytes):
    """Another file of the artefact, with its SHA-256 in the manifest."""
    (path / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    rewrite_manifest(path, lambda raw: raw["files"].update({name: digest}))


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_not_waited_for(saved, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    assert "is not a file" in refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_gigabytes_is_refused_unread(saved, name):
    with (saved / name).open("r+b") as file:
        file.truncate(1 << 40)
    assert "has 1099511627776 bytes, more than" in refusal(saved)


def test_a_name_that_stands_twice_is_refused(saved):
    file = saved / artefact.MANIFEST_FILE
    file.write_text(file.read_text().replace('"classes"', '"classes": 7, "classes"', 1))
    assert "it has the name 'classes' twice in one object" in refusal(saved)


def test_a_manifest_as_editors_of_windows_write_it_is_read(saved):
    file = saved / artefact.MANIFEST_FILE
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    artefact.load(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.update(more=np.zeros(3, np.float32)), "a parameter 'more', which the network"),
        (lambda p: p.update({"a\nb": np.zeros(3, np.float32)}), r"a parameter 'a\nb', which"),
        (lambda p: p.pop("head_bias"), "it has no head_bias"),
        (lambda p: p.update(head_weight=p["head_weight"].T), "head_weight has the shape 14 x 5"),
        (lambda p: p.update(head_bias=p["head_bias"][None]), "head_bias has the shape 1 x 5"),
    ],
)
def test_parameters_of_another_network_are_named(saved, make_model, change, said):
    parameters = dict(make_model().parameters)
    change(parameters)
    replace_file(saved, artefact.PARAMS_FILE, params_file.write(parameters))
    assert said in refusal(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_refused(saved, make_model, value):
    parameters = dict(make_model().parameters)
    parameters["head_bias"] = np.full_like(parameters["head_bias"], value)
    replace_file(saved, artefact.PARAMS_FILE, params_file.write(parameters))
    assert "head_bias has values that are not finite numbers" in refusal(saved)


def test_categories_of_the_parameters_are_those_of_the_manifest(saved, make_model):
    parameters = dict(make_model().parameters)
    parameters["category_index"] = parameters["category_index"][::-1].copy()
    replace_file(saved, artefact.PARAMS_FILE, params_file.write(parameters))
    assert "category_index is not the manifest's" in refusal(saved)


def test_a_symbol_of_something_else_is_refused_before_it_is_used(saved):
    replace_file(saved, artefact.SYMBOL_FILE, b"[" * 100_000)
    assert "model-symbol.json': it is nested too deeply" in refusal(saved)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    assert "there is no model" in refusal(tmp_path / "nothing")
    assert f"'{tmp_path}': is no model: it has no manifest.json" in refusal(tmp_path)
    (tmp_path / "_manifest.json").write_text("{}")
    assert "is a snapshot, and no model; give the model first" in refusal(tmp_path)


def test_an_existing_model_is_not_overwritten(saved, make_model):
    with pytest.raises(ArtefactError, match="already exists"):
        artefact.save(make_model(), saved)


def test_a_disk_that_fills_up_leaves_nothing_behind(make_model, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match="No space left"):
        artefact.save(make_model(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
