"""A snapshot that is written in as many sittings as it takes.

Lives here: what is kept between sittings, and what one may go on with. Must not live here: which
rows are in which shard (jobs/export.py).

How it works: beside the target OUT stands `.OUT.unfinished` with
    begun.json        what the first sitting was asked for and found
    shards.jsonl      a line for each whole shard: its number, manifest entry, notes of the writer
    snapshot/         the shards
    lists/            whatever the writer keeps to know what is in which shard
A shard is written under another name, flushed, renamed and then noted, so a line means a whole
shard; each is checked again when the work goes on. At the end `snapshot/` gets its manifest and is
renamed to OUT. Only one process may write: it holds a lock on begun.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshot_shards import ShardFile, check_shard, flush, unwritable
from stream_scorer.io.files.snapshots import (
    SnapshotInfo,
    manifest_of,
    publish,
    refuse_existing,
    shard_name,
)


class UnfinishedSnapshot:
    """The unfinished snapshot for the new snapshot `path`; a context manager.

    asked: what it is of, plain values; it must be the same in every sitting. found: the facts of
    the first sitting, kept for the later ones. Raises SnapshotError where `path` exists, where
    another process is at it, where it was begun otherwise, or where the disk refuses.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        refuse_existing(path)
        self._path = path
        self._folder = path.parent / f".{path.name}.unfinished"
        self._noting = threading.Lock()
        self._closing = ExitStack()
        try:
            self._lock = self._closing.enter_context(self._locked())
            self.found = self._begin(dict(asked), dict(found))
            self.done = self._whole_shards()
        except OSError as error:
            self._closing.close()
            raise unwritable(path, error) from None
        except BaseException:
            self._closing.close()
            raise
        self.shards_before = len(self.done)

    def __enter__(self) -> UnfinishedSnapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @property
    def lists(self) -> Path:
        """A folder for the writer's own books."""
        return self._folder / "lists"

    def new_shard(self, number: int) -> ShardFile:
        """Shard `number`, to be given to `keep` when it is written."""
        return ShardFile(self._shards / f".{shard_name(number)}")

    def keep(self, number: int, shard: ShardFile, notes: Mapping[str, Any]) -> None:
        """Shard `number` is written; `notes` are given back by `done` in later sittings."""
        entry = shard.finish()
        name = shard_name(number)
        (self._shards / entry["name"]).rename(self._shards / name)
        line = {"number": number, "shard": {**entry, "name": name}, "notes": dict(notes)}
        with self._noting:
            flush(self._shards)
            with (self._folder / "shards.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.done[number] = line

    def finish(self, info: SnapshotInfo, as_of_ms: Sequence[int]) -> int:
        """All shards are kept: the manifest, then the name. How many rows there are."""
        entries = [self.done[number]["shard"] for number in sorted(self.done)]
        try:
            publish(self._shards, self._path, manifest_of(info, as_of_ms, entries))
        except OSError as error:
            raise unwritable(self._path, error) from None
        shutil.rmtree(self._folder, ignore_errors=True)
        return sum(int(entry["rows"]) for entry in entries)

    def unwritable(self, error: OSError) -> SnapshotError:
        """What to raise where a shard can't be written."""
        return unwritable(self._path, error)

    @property
    def _shards(self) -> Path:
        return self._folder / "snapshot"

    def _locked(self) -> IO[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / "begun.json").open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            remedy = "another process is writing it; wait for it or choose another path"
            raise SnapshotError("snapshot", self._path, remedy) from None
        return file

    def _begin(self, asked: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        """What the first sitting found; `found` where this is the first."""
        self._lock.seek(0)
        text = self._lock.read()
        # Without the shards' folder it is what a finished one left, or had not begun.
        if text.endswith("\n") and self._shards.is_dir():
            begun = json.loads(text)
            for name in sorted(begun["asked"].keys() | asked.keys()):
                before, now = begun["asked"].get(name), asked.get(name)
                if before != now:
                    remedy = (
                        f"an unfinished one with {name} {before} is there, now it is {now}: give "
                        f"the same again to finish it, or delete {self._folder} to begin anew"
                    )
                    raise SnapshotError("snapshot", self._path, remedy)
            return dict(begun["found"])
        self._lock.truncate(0)
        for child in self._folder.iterdir():
            if child.name != "begun.json":
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        self._shards.mkdir()
        self._lock.write(json.dumps({"asked": asked, "found": found}) + "\n")
        self._lock.flush()
        os.fsync(self._lock.fileno())
        return found

    def _whole_shards(self) -> dict[int, dict[str, Any]]:
        """Lines of shards.jsonl whose shards are as noted; others are written again."""
        journal = self._folder / "shards.jsonl"
        whole: dict[int, dict[str, Any]] = {}
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        for text in lines:
            try:
                line = json.loads(text)
                check_shard(self._shards / line["shard"]["name"], line["shard"])
            except (ValueError, SnapshotError):
                continue  # half a line, or half a shard
            whole[int(line["number"])] = line
        if len(lines) != len(whole):
            journal.write_text("".join(json.dumps(x) + "\n" for x in whole.values()), "utf-8")
        return whole
