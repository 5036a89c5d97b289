"""`make quality`: how good the model is on the public 84.51° Complete Journey data.

The task: which of the categories that at least 100 households bought will a household buy from
within 14 days? Cut-offs are Mondays at midnight of the shop's clock: training weekly from 3 April
to 25 September 2017, validation on 9, 16 and 23 October, test on 6 and 20 November, 4 and 18
December; every household seen before a cut-off is a row. Everything goes through the jobs behind
`replay`, `train` and `evaluate`, with the demo's features and the default settings.

Usage: python tests/quality/complete_journey.py [--ablation] [--seeds N] [--json] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.evaluation import Evaluation
from stream_scorer.core.evaluation.intervals import MetricDifference, bootstrap_difference
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.core.labels.labels import dense_labels
from stream_scorer.demo.complete_journey import load_events
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.evaluate import evaluate
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import Trained, train
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

SHOP = ZoneInfo("America/New_York")
MIN_CUSTOMERS = 100
VALIDATION_FROM = date(2017, 10, 9)
PLAIN = {"hidden": (256, 128), "own_path": False, "pooled": ()}
NETWORKS: dict[str, dict[str, Any]] = {"plain MLP 256-128": {"network": PLAIN}, "our model": {}}
ABLATION: dict[str, dict[str, Any]] = {
    "without own path": {"network": {"own_path": False}},
    "without pooled": {"network": {"pooled": ()}},
    "without own and pooled": {"network": {"own_path": False, "pooled": ()}},
    "without deep": {"network": {"hidden": ()}},
    "without calibration": {"calibrate": False},
}
COLUMNS = ("log_loss", "macro_auc", "micro_auc", "macro_ap", "recall_at_10", "ndcg_at_10", "ece")
FLOOR = {"log_loss": 0.1576, "macro_auc": 0.818, "recall_at_10": 0.298, "ece": 0.005}
LESS_IS_BETTER = ("log_loss", "ece")


@dataclass(frozen=True)
class Result:
    """One line of the table; rows: each test row's value of a metric, whose mean it is."""

    metrics: QualityMetrics
    rows: dict[str, np.ndarray]
    validation_log_loss: float | None = None
    seconds: float = 0.0


def midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=SHOP).timestamp() * 1000)


def cutoffs() -> dict[str, list[int]]:
    weeks = [date(2017, 4, 3) + timedelta(weeks=i) for i in range(26)]
    later = [VALIDATION_FROM + timedelta(weeks=i) for i in range(3)]
    test = [date(2017, 11, 6) + timedelta(weeks=2 * i) for i in range(4)]
    days = {"train": weeks, "validation": later, "test": test}
    return {name: [midnight_ms(day) for day in found] for name, found in days.items()}


def prepare(folder: Path) -> Settings:
    """Event file, vocabulary and snapshots in `folder`."""
    settings = prepare_events(folder)
    for name, moments in cutoffs().items():
        report = replay(settings, [folder / "events.parquet"], folder / name, moments)
        say(f"{name}: {report.rows:,} rows at {report.cutoffs} cut-offs")
    return settings


def prepare_events(folder: Path) -> Settings:
    """Event file and vocabulary in `folder`; the vocabulary is of training's time."""
    events = load_events()
    past = events.filter(pc.less(events["occurred_at"], midnight_ms(VALIDATION_FROM)))
    words = sorted(pc.unique(past["category_id"]).to_pylist())
    (folder / "categories.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    config = folder / "stream_scorer.toml"
    config.write_bytes(files("stream_scorer.demo").joinpath("demo.toml").read_bytes())
    attributes = pc.make_struct(
        events["department"], events["store"], field_names=["department", "store"]
    )
    kept = [c for c in events.column_names if c not in ("department", "store")]
    pq.write_table(
        events.select(kept).append_column("attributes", attributes), folder / "events.parquet"
    )
    return Settings.load(config, environment={})


def trained(folder: Path, name: str, change: dict[str, Any]) -> tuple[Path, Trained]:
    """The model `name` with this change of the training settings, and what `train` returned."""
    config, out = folder / "stream_scorer.toml", folder / f"model {name}"
    overrides = {"training": {"min_customers": MIN_CUSTOMERS, **change}}
    settings = Settings.load(config, overrides=overrides, environment={})
    report = train(settings, [folder / "train"], out, validation=[folder / "validation"])
    say(f"{name}: {report.seconds:.0f} s, validation {report.validation_log_loss:.5f}")
    return out, report


def rows_of(probabilities: np.ndarray, acted: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "log_loss": metrics.row_log_loss(probabilities, acted),
        "macro_auc": metrics.row_macro_auc(probabilities, acted),
        "recall_at_10": metrics.row_recall_at_k(probabilities, acted, 10),
    }


def measured(
    folder: Path, changes: dict[str, dict[str, Any]]
) -> tuple[dict[str, Result], dict[str, Evaluation]]:
    """Of every model, its test metrics and its whole evaluation."""
    found: dict[str, Result] = {}
    evaluations: dict[str, Evaluation] = {}
    for name, change in changes.items():
        model, report = trained(folder, name, change)
        file = folder / f"{name}.parquet"
        evaluations[name] = evaluate(model, [folder / "test"], scores_file=file)
        table = pq.read_table(file)
        flat = pa.concat_arrays(table["probabilities"].chunks).flatten().to_numpy()
        p = flat.reshape(len(table), -1)
        acted = labels(folder, model)
        found[name] = Result(
            evaluations[name].metrics, rows_of(p, acted), report.validation_log_loss, report.seconds
        )
    return found, evaluations


def labels(folder: Path, model: Path) -> np.ndarray:
    """(R, N) whether each household bought from each category of the model."""
    index = np.array(artefact.load(model).manifest.category_index, np.int64)
    return np.concatenate(
        [dense_labels(rows, index) > 0 for rows in Snapshot.open(folder / "test").shards()]
    )


def differences(found: dict[str, Result], folder: Path) -> dict[str, Any]:
    """For each other model: ours minus it, with the 95 % interval of a bootstrap by household."""
    households = [c for rows in Snapshot.open(folder / "test").shards() for c in rows.customer_ids]
    customer = np.unique(np.array(households), return_inverse=True)[1]
    ours = found["our model"].rows
    return {
        name: {
            metric: bootstrap_difference(ours[metric], result.rows[metric], customer)
            for metric in ours
        }
        for name, result in found.items()
        if name != "our model"
    }


def show(report: dict[str, Any]) -> None:
    print(f"\n{report['rows']:,} test rows, {report['categories']} categories, "
          f"{report['categories_scored']} of them with both outcomes\n")  # fmt: skip
    print(f"{'':28}" + "".join(f"{c:>13}" for c in COLUMNS))
    for name, values in report["table"].items():
        print(f"{name:28}" + "".join(f"{values[c]:13.4f}" for c in COLUMNS))
    print("\nour model minus ..., with 95 % intervals (paired bootstrap by household)")
    for name, gap in report["differences"].items():
        cells = "  ".join(
            f"{m} {d['difference']:+.4f} ({d['low']:+.4f} to {d['high']:+.4f})"
            for m, d in gap.items()
        )
        print(f"{name:24}{cells}")
    print(f"\nfloor {FLOOR}: {'reached' if report['floor_reached'] else 'NOT reached'}; "
          f"{report['seconds']:.0f} s")  # fmt: skip


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(folder: Path, *, ablation: bool, seeds: int) -> dict[str, Any]:
    started = time.monotonic()
    prepare(folder)
    changes = NETWORKS | (ABLATION if ablation else {})
    changes |= {f"our model, seed {i}": {"seed": i} for i in range(1, seeds)}
    found, evaluations = measured(folder, changes)
    ours = evaluations["our model"]
    gaps = differences(found, folder)
    table = {name: ours.baselines[name] for name in ("prior", "logistic")}
    table |= {name: result.metrics for name, result in found.items()}
    between = {name: {m: MetricDifference.of(d).as_json() for m, d in gap.items()}
               for name, gap in gaps.items()}  # fmt: skip
    metrics = ours.metrics.as_json()
    return {
        "rows": ours.rows,
        "categories": ours.categories,
        "categories_scored": ours.categories_scored,
        "table": {name: line.as_json() for name, line in table.items()},
        "differences": {name: c.as_json() for name, c in ours.intervals.items()} | between,
        "validation_log_loss": {name: r.validation_log_loss for name, r in found.items()},
        "training_seconds": {name: r.seconds for name, r in found.items()},
        "floor_reached": all(
            metrics[m] <= limit if m in LESS_IS_BETTER else round(metrics[m], 3) >= limit
            for m, limit in FLOOR.items()
        ),
        "seconds": time.monotonic() - started,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ablation", action="store_true", help="what each part of it adds")
    parser.add_argument("--seeds", type=int, default=1, help="train our model so many times")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--keep", type=Path, help="keep snapshots and models in this new folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-quality-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=folder == Path(temporary))
        report = measure(folder, ablation=options.ablation, seeds=options.seeds)
    print(json.dumps(report)) if options.json else show(report)
    return 0 if report["floor_reached"] else 1


if __name__ == "__main__":
    sys.exit(main())
