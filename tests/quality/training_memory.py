"""How much memory `train` takes for 2, 8 and 32 shards of one size: it must not grow with them.

Each count is a process of its own that trains from a snapshot on disk, as the command does; its
peak resident memory is read after it. Rows are random: nothing is said of quality here.

Usage: python tests/quality/training_memory.py [--shards N,N,...] [--rows ROWS] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stream_scorer.bench.workload import RULE, Sizes, rows_of, space_of
from stream_scorer.io.files.snapshot_info import SnapshotInfo
from stream_scorer.io.files.snapshot_writer import SnapshotWriter

SIZES = Sizes(columns=50_000, categories=300, entries=117, positives=5)
# Each shard is read a few times in either run; a pool of `shuffle_rows` is as large as a shard.
PROGRAM = """
import json, sys
from pathlib import Path
from stream_scorer.bench.workload import RULE, space_of
from stream_scorer.model.spec import TrainingOptions
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.runtime import peak_memory_bytes
from tests.quality.training_memory import SIZES
from stream_scorer.model import training
path, rows = Path(sys.argv[1]), int(sys.argv[2])
before = peak_memory_bytes()
shards = Snapshot.open(path).shards()
options = TrainingOptions(
    min_customers=1, average_seeds=1, epochs=1, min_steps=0, shuffle_rows=rows
)
training.train(shards, None, space_of(SIZES), RULE, options)
print(json.dumps({"before_bytes": before, "peak_bytes": peak_memory_bytes()}))
"""


def measure(folder: Path, shards: int, rows: int) -> dict[str, int]:
    """Peak memory of a training process with so many shards of `rows` rows."""
    info = SnapshotInfo(space_of(SIZES), "category_id", RULE)
    with SnapshotWriter(folder / str(shards), info, rows_per_shard=rows) as writer:
        for number in range(shards):
            writer.write(rows_of(SIZES, rows, seed=number))
        written = writer.finish()
    size = sum(shard["bytes"] for shard in written.manifest["shards"])
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(written.path), str(rows)],
        check=True, stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout)
    return {"shards": shards, "rows": shards * rows, "file_bytes": size, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", default="2,8,32", help="how many, several with commas")
    parser.add_argument("--rows", type=int, default=8_192, help="of each shard")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-memory-") as folder:
        found = [
            measure(Path(folder), int(count), options.rows) for count in options.shards.split(",")
        ]
    growth = found[-1]["peak_bytes"] / found[0]["peak_bytes"]
    if options.json:
        print(json.dumps({"runs": found, "growth": growth}))
        return 0 if growth < 1.1 else 1
    for one in found:
        print(f"{one['shards']:4} shards, {one['rows']:9,} rows, {one['file_bytes'] / 1e6:7.0f} MB "
              f"on disk: peak {one['peak_bytes'] / 1e6:6.0f} MB, "
              f"{one['before_bytes'] / 1e6:.0f} MB of it before")  # fmt: skip
    print(f"{found[-1]['shards']} shards take {growth:.2f} times what {found[0]['shards']} take")
    return 0 if growth < 1.1 else 1


if __name__ == "__main__":
    sys.exit(main())
