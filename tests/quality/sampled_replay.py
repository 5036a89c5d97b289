"""How long `replay` takes, and how much memory, for all customers and for a sample of them.

The public purchases of complete_journey.py, with rows at its 26 weekly cut-offs of training. Shares
take turns, each in a process of its own; medians.

Usage: python tests/quality/sampled_replay.py [--shares 1/1,1/8,1/64] [--runs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import complete_journey
from tasks import CONFIG_FILE

PROGRAM = """
import json, sys, time
from pathlib import Path
from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.jobs import replay
from stream_scorer.runtime import keep_freed_memory, peak_memory_bytes
from stream_scorer.settings.tree import Settings
import complete_journey
folder, share, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
keep_freed_memory()
settings = Settings.load(folder / "stream_scorer.toml", environment={})
settings = settings.sampling(CustomerSample.asked(share))
before, read = peak_memory_bytes(), replay._read
seconds = {}
def timed(*arguments):
    started = time.monotonic()
    found = read(*arguments)
    seconds["reading"] = time.monotonic() - started
    return found
replay._read = timed
done = replay.replay(
    settings, [folder / "events.parquet"], out, complete_journey.cutoffs()["train"]
)
print(json.dumps({"share": share, "events": done.events, "rows": done.rows,
                  "seconds": done.seconds, "reading_seconds": seconds["reading"],
                  "before_bytes": before, "peak_bytes": peak_memory_bytes()}))
"""


def measure(folder: Path, share: str, run: int) -> dict[str, float]:
    here = Path(__file__).parent
    path = f"{here}{os.pathsep}{here.parents[1]}"
    out = folder / f"out-{share.replace('/', '-of-')}-{run}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), share, str(out)],
        check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", default="1/1,1/8,1/64", help="several with commas")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    shares = options.shares.split(",")
    with tempfile.TemporaryDirectory(prefix="stream-scorer-sampled-") as temporary:
        folder = Path(temporary)
        complete_journey.events(folder)
        assert (folder / CONFIG_FILE).exists()
        measure(folder, shares[-1], -1)  # kernels are compiled
        turns = [[measure(folder, share, run) for share in shares] for run in range(options.runs)]
    found = [
        {name: value if name == "share" else statistics.median(of[name] for of in column)
         for name, value in column[0].items()}
        for column in zip(*turns, strict=True)
    ]  # fmt: skip
    if options.json:
        print(json.dumps(found))
        return 0
    for one in found:
        print(f"{one['share']:>5}: {one['events']:9,.0f} events, {one['rows']:7,.0f} rows in "
              f"{one['seconds']:6.2f} s, {one['reading_seconds']:.2f} s of it reading; peak "
              f"{one['peak_bytes'] / 1e6:5.0f} MB, {one['before_bytes'] / 1e6:.0f} MB of it "
              f"before; {found[0]['seconds'] / one['seconds']:.1f} times as fast")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
