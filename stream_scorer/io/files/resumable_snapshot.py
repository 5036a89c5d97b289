"""A snapshot whose writing can be interrupted and resumed by another run.

Beside the target OUT stands `.OUT.unfinished` with
    begun.json        what the first run was asked for and found
    shards.jsonl      a line for each whole shard: its number, manifest entry, notes of the writer
    snapshot/         the shards
    lists/            whatever the writer keeps to know what is in which shard
A line is written to shards.jsonl only when its shard is on disk under its final name, so a line
means a whole shard; a run that resumes checks each of them again. At the end `snapshot/` gets its
manifest and is renamed to OUT. Only one process may write: it holds a lock on begun.json.

Where OUT is on object storage, this folder is among the user's cached files. A whole shard is
uploaded at once, and deleted here; the manifest is uploaded last (storage/uploads.py). A run that
resumes reads the shards that are there again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from stream_scorer import atomic
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshot_info import SnapshotInfo, manifest_of
from stream_scorer.io.files.snapshot_manifest import MANIFEST_FILE, manifest_content
from stream_scorer.io.files.snapshot_shards import ShardFile, check_shard, unwritable
from stream_scorer.io.files.snapshot_writer import refuse_existing, shard_name, write_table
from stream_scorer.storage.places import ObjectPath, Place
from stream_scorer.storage.uploads import FolderUpload


class UnfinishedSnapshot:
    """The unfinished snapshot for the new snapshot `path`; a context manager.

    asked: what it is a snapshot of, plain values that must be the same in every run. found: facts
    that the first run found, kept for later runs. Raises SnapshotError where `path` exists, where
    another process is writing it, where an earlier run was asked for something else, or where the
    disk refuses.
    """

    def __init__(self, path: Place, asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        self._path = path
        self._upload: FolderUpload | None = None
        self._folder = _work_folder(path)
        # On object storage the shards of an unfinished one have their names already.
        resumes = isinstance(path, ObjectPath) and (self._folder / "snapshot").is_dir()
        refuse_existing(path / MANIFEST_FILE if resumes else path)
        self._noting = threading.Lock()
        self._closing = ExitStack()
        try:
            self._lock = self._closing.enter_context(self._locked())
            self.found = self._begin(dict(asked), dict(found))
            if isinstance(path, ObjectPath):
                self._upload = FolderUpload(path)
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
        """A folder for what the writer itself has to remember."""
        return self._folder / "lists"

    def new_shard(self, number: int) -> ShardFile:
        """Shard `number`, to be given to `keep` when it is written."""
        return ShardFile(self._shards / f".{shard_name(number)}")

    def keep(self, number: int, shard: ShardFile, notes: Mapping[str, Any]) -> None:
        """Shard `number` is written; `notes` can be read from `done` by later runs."""
        entry = shard.finish()
        name = shard_name(number)
        # In this order, so that a line means a shard that is on disk.
        atomic.publish(self._shards / entry["name"], self._shards / name)
        if self._upload is not None:
            self._upload.send(self._shards / name)
        line = {"number": number, "shard": {**entry, "name": name}, "notes": dict(notes)}
        with self._noting:
            with (self._folder / "shards.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.done[number] = line

    def finish(
        self, info: SnapshotInfo, as_of_ms: Sequence[int], table: TrendTable | None = None
    ) -> int:
        """All shards are kept: write the manifest and rename. Returns the number of rows.

        as_of_ms: ascending. table: the shop's trend of the days of all rows, where one is declared.
        """
        entries = [self.done[number]["shard"] for number in sorted(self.done)]
        try:
            manifest = manifest_of(info, as_of_ms, entries, write_table(self._shards, table))
            (self._shards / MANIFEST_FILE).write_bytes(manifest_content(manifest))
            if self._upload is not None:
                self._upload.finish(self._shards)
            elif isinstance(self._path, Path):
                atomic.publish(self._shards, self._path)
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
        # "a+" makes the file, but leaves what an earlier run wrote, which is read after locking.
        file = (self._folder / "begun.json").open("a+", encoding="utf-8")
        try:
            # The kernel lets go of this lock when the process ends, however it ends, so that a
            # crash leaves nothing to clean up.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            remedy = "another process is writing it; wait for it or choose another path"
            raise SnapshotError("snapshot", self._path, remedy) from None
        return file

    def _begin(self, asked: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        """What the first run found; `found` where this is the first."""
        self._lock.seek(0)
        text = self._lock.read()
        # Without the shards' folder this is the rest of a finished snapshot, or of a run that ended
        # before it had made the folder: there is nothing to resume.
        # A line without its end was being written when the process or the machine died.
        if text.endswith("\n") and self._shards.is_dir():
            begun = json.loads(text)
            for name in sorted(begun["asked"].keys() | asked.keys()):
                before, now = begun["asked"].get(name), asked.get(name)
                if before != now:
                    remedy = (
                        f"an unfinished export is there, begun with {name} {before}, and this one "
                        f"has {now}: give the same again to finish it, or delete {self._folder} to "
                        "start over"
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
                kept = self._shards if self._upload is None else self._path
                check_shard(kept / line["shard"]["name"], line["shard"])
            except (ValueError, SnapshotError):
                continue  # half a line, or half a shard
            whole[int(line["number"])] = line
        # The next line would otherwise be appended to half a line.
        if len(lines) != len(whole):
            text = "".join(json.dumps(line) + "\n" for line in whole.values())
            atomic.write_file(journal, text.encode())
        return whole


def _work_folder(path: Place) -> Path:
    if isinstance(path, Path):
        return path.parent / f".{path.name}.unfinished"
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    address = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return cached / "stream_scorer" / "unfinished" / f"{path.name}-{address}"
