"""manifest.json of a model artefact: what it says, and whether what was read is one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import ArtefactError, ConfigError
from stream_scorer.model.spec import NetworkSpec

FORMAT = 2  # 1 had networks of four members alone; they are read as what they were
TRAIN_AGAIN = "copy or train the model again"
_VERSION = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Manifest:
    """manifest.json of a model artefact.

    fingerprint: 16 hexadecimal digits. files: SHA-256 of each other file. model_version: a hash of
    all that changes a score, so the same training gives the same version. training, versions,
    metrics and calibration are for people: nothing is computed from them.
    """

    format: int
    model_version: str
    fingerprint: str
    features: dict[str, Any]
    categories: tuple[str, ...]
    category_index: tuple[int, ...]
    labels: LabelRule
    classes: int
    network: NetworkSpec
    training: dict[str, Any]
    versions: dict[str, str]
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: object, where: str) -> Manifest:
        """The manifest that `to_dict` wrote; `where` names it in the ArtefactError."""
        written = raw.get("format") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or type(written) is not int or written < 1:
            raise ArtefactError("model", where, f"not a model's manifest; {TRAIN_AGAIN}")
        if written > FORMAT:
            remedy = f"format {written}; this program reads up to {FORMAT}: upgrade stream-scorer"
            raise ArtefactError("model", where, remedy)
        kinds = {
            "model_version": str, "fingerprint": str, "features": dict, "categories": list,
            "category_index": list, "labels": dict, "classes": int, "network": dict,
            "training": dict, "versions": dict, "metrics": dict, "calibration": dict,
            "files": dict,
        }  # fmt: skip
        for name, kind in kinds.items():
            if type(raw.get(name)) is not kind:
                problem = f"has no {name}, or one of another type than stream-scorer writes"
                raise ArtefactError("model", where, f"{problem}; {TRAIN_AGAIN}")
        values = {name: raw[name] for name in kinds}
        values["categories"] = tuple(values["categories"])
        values["category_index"] = tuple(values["category_index"])
        # A version names folders and files, and stands in log lines.
        if not _VERSION.fullmatch(values["model_version"]):
            problem = "contradicts itself: model_version is not 16 hexadecimal digits"
            raise ArtefactError("model", where, f"{problem}; {TRAIN_AGAIN}")
        try:
            _require(all(type(i) is int for i in values["category_index"]), "category_index")
            _require(all(type(name) is str for name in values["categories"]), "categories")
            _require(type(values["classes"]) is int, "classes")
            values["labels"] = _label_rule(values["labels"])
            values["network"] = _network(values["network"])
        # ConfigError and whatever else comes of values of other types than `to_dict` writes.
        except (TypeError, KeyError, ValueError, AttributeError, ConfigError) as error:
            remedy = f"contradicts itself: {error}; {TRAIN_AGAIN}"
            raise ArtefactError("model", where, remedy) from None
        return cls(format=written, **values)


def _require(right: bool, name: str) -> None:
    if not right:
        raise ValueError(f"{name} has a value of another type than stream-scorer writes")


def _label_rule(raw: Mapping[str, Any]) -> LabelRule:
    by, groups, horizon_ms = raw["by"], raw["actions"], raw["horizon_ms"]
    _require(type(by) is str, "labels.by")
    _require(type(horizon_ms) is int and horizon_ms < 2**63, "labels.horizon_ms")
    well_formed = isinstance(groups, list) and all(
        isinstance(group, list) and all(type(name) is str for name in group) for group in groups
    )
    _require(well_formed, "labels.actions")
    return LabelRule(by, tuple(tuple(group) for group in groups), horizon_ms)


def _network(raw: Mapping[str, Any]) -> NetworkSpec:
    for name in ("hidden", "pooled"):
        sizes = raw.get(name)
        right = isinstance(sizes, list) and all(type(size) is int for size in sizes)
        _require(right, f"network.{name}")
    _require(type(raw.get("dropout")) in (int, float), "network.dropout")
    _require(type(raw.get("own_path")) is bool, "network.own_path")
    four = tuple(raw["hidden"]), raw["dropout"], raw["own_path"], tuple(raw["pooled"])
    if len(raw) == 4:  # of format 1
        return NetworkSpec(*four, pairs="all", tower=0, linear_rank=0)
    _require(type(raw.get("pairs")) is str, "network.pairs")
    for name in ("tower", "linear_rank"):
        _require(type(raw.get(name)) is int, f"network.{name}")
    _require(len(raw) == 7, "network")
    return NetworkSpec(*four, raw["pairs"], raw["tower"], raw["linear_rank"])
