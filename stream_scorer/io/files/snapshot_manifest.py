"""The manifest of a snapshot: its file names, its checksum, and what is checked when it is read.

What the manifest says is described in snapshots.py. Its checksum finds damage; it is no proof that
this package wrote it, so the shape of what names files is checked as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from stream_scorer.errors import SnapshotError, cannot_read
from stream_scorer.io.files.snapshot_shards import WRITE_AGAIN
from stream_scorer.io.files.snapshot_trend import is_entry
from stream_scorer.manifests import MAX_BYTES, checksum, parse_json, read_file
from stream_scorer.storage.places import Place
from stream_scorer.storage.uploads import UNFINISHED, UNFINISHED_REMEDY

FORMAT = 1
MANIFEST_FILE = "_manifest.json"
OLD_MANIFEST_FILE = "manifest.json"
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}\.parquet")
_FIELDS = {
    "rows": int, "fingerprint": str, "features": dict, "categories": list, "label_field": str,
    "source_offsets": dict,
}  # fmt: skip
_SHARD_FIELDS = {"name": str, "rows": int, "bytes": int, "sha256": str}


NAME_SNAPSHOT = "name a folder that `replay --cutoffs` or `export` wrote"


def read_manifest(path: Place) -> tuple[dict[str, Any], Place]:
    """The manifest of the snapshot in `path`, and the file that it stands in.

    Raises SnapshotError where it is missing, altered or from the future.
    """
    for where in (path / MANIFEST_FILE, path / OLD_MANIFEST_FILE):
        try:
            content = read_file(where, MAX_BYTES)
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise SnapshotError("snapshot", where, f"{error}; {WRITE_AGAIN}") from None
        except OSError as error:
            raise SnapshotError("snapshot", where, cannot_read(error)) from None
        return parse_manifest(content, where), where
    if not path.exists():
        remedy = f"there is no such folder; {NAME_SNAPSHOT}"
        raise SnapshotError("snapshot", path, remedy)
    if (path / UNFINISHED).exists():
        raise SnapshotError("snapshot", path, UNFINISHED_REMEDY)
    raise without_manifest(path)


def without_manifest(path: object) -> SnapshotError:
    """What to raise where the directory `path` has no manifest of either name."""
    remedy = (
        f"is no snapshot: it has neither {MANIFEST_FILE} nor, as of older versions, "
        f"{OLD_MANIFEST_FILE}; {NAME_SNAPSHOT}"
    )
    return SnapshotError("snapshot", path, remedy)


def parse_manifest(content: bytes, where: object) -> dict[str, Any]:
    """The manifest in these bytes, without its checksum; `where` names it in the SnapshotError."""
    try:
        raw = parse_json(content)
    except ValueError as error:
        raise SnapshotError("snapshot", where, f"{error}; {WRITE_AGAIN}") from None
    if isinstance(raw, dict) and "model_version" in raw and "shards" not in raw:
        raise SnapshotError(
            "snapshot", where, f"is of a model, and of no snapshot; {NAME_SNAPSHOT}"
        )
    written = raw.get("format") if isinstance(raw, dict) else None
    if type(written) is not int or written < 1:
        raise SnapshotError("snapshot", where, f"{_other_manifest(raw)}; {NAME_SNAPSHOT}")
    # Before the checksum, because a newer format may compute it in another way.
    if written > FORMAT:
        remedy = f"format {written}; this program reads up to {FORMAT}: upgrade stream-scorer"
        raise SnapshotError("snapshot", where, remedy)
    manifest: dict[str, Any] = raw
    if manifest.pop("checksum", None) != checksum(manifest):
        raise SnapshotError("snapshot", where, f"was altered after it was written; {WRITE_AGAIN}")
    _check_listed(manifest, where)
    return manifest


def _other_manifest(raw: object) -> str:
    if isinstance(raw, dict) and "mode" in raw:
        return "is of propensities, which `replay` writes without --cutoffs, and of no snapshot"
    return "is no snapshot's manifest"


def manifest_content(manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes, with the checksum."""
    # Sorted keys and ASCII are part of the format: the Java reader computes the checksum from this
    # text without its white space.
    text = json.dumps({**manifest, "checksum": checksum(manifest)}, indent=1, sort_keys=True)
    return (text + "\n").encode()


def _check_listed(manifest: Mapping[str, Any], where: object) -> None:
    """Raises SnapshotError where the shards are not listed as this package lists them.

    A right checksum is no proof of that, and a shard's name becomes a path.
    """
    shards = manifest.get("shards")
    well_formed = (
        isinstance(shards, list)
        and all(type(manifest.get(name)) is kind for name, kind in _FIELDS.items())
        and type(manifest.get("labels", "")) in (dict, type(None))
        and (manifest.get("trend") is None or is_entry(manifest["trend"]))
        and all(
            isinstance(s, dict)
            and all(type(s.get(k)) is kind for k, kind in _SHARD_FIELDS.items())
            and s["rows"] >= 0
            for s in shards
        )
    )
    if not well_formed:
        raise SnapshotError("snapshot", where, f"not a snapshot's manifest; {WRITE_AGAIN}")
    if manifest["rows"] != sum(shard["rows"] for shard in manifest["shards"]):
        remedy = f"its number of rows is not that of its shards; {WRITE_AGAIN}"
        raise SnapshotError("snapshot", where, remedy)
    names = [shard["name"] for shard in manifest["shards"]]
    if len(set(names)) != len(names):
        raise SnapshotError("snapshot", where, f"lists a shard twice; {WRITE_AGAIN}")
    for name in names:
        if not SHARD_NAME.fullmatch(name):
            remedy = f"lists a shard {name!r}, which is not a shard's file name; {WRITE_AGAIN}"
            raise SnapshotError("snapshot", where, remedy)
