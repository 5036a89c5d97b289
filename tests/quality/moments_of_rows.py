"""At which moments training's rows should stand, and as of when events should be scored.

On the public 84.51° Complete Journey data (complete_journey.py), with its cut-offs. Models are
trained on as many rows as of cut-offs, just after events, half of each, and as `run` serves them
with a daily refresh; also just after the newest event before each cut-off, a sample that depends on
what customers did afterwards. Each is
measured just after events (all of them sampled alike), and at cut-offs by how long the household
has been quiet; there also with the score as of the household's last event, which is what the topic
holds without a refresh. Then, for records that are scored long after their event, as of the event
and as of now are compared.

Usage: python tests/quality/moments_of_rows.py [--rows N] [--steps N]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import complete_journey
import numpy as np
from complete_journey import MIN_CUSTOMERS, cutoffs
from scipy import sparse
from tasks import CONFIG_FILE

from stream_scorer.core.evaluation.intervals import bootstrap_difference
from stream_scorer.core.evaluation.metrics import ece, row_log_loss
from stream_scorer.core.events.batch import EventBatch, Int64, concatenate_events
from stream_scorer.core.labels.as_of import KnownEvents, Moments, at_cutoffs, distinct, rows_at
from stream_scorer.core.labels.labels import (
    LabelCollector,
    LabelledRows,
    concatenate_rows,
    dense_labels,
)
from stream_scorer.core.labels.sampled_moments import MomentSample, counted
from stream_scorer.io.files.events import open_events
from stream_scorer.model import artefact, training
from stream_scorer.model.engines.engine import Engine
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.settings.tree import Settings

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
QUIET_DAYS = (0, 7, 30, 60, 120, 400)
LAGS_MS = {"1 hour": HOUR_MS, "1 day": DAY_MS, "7 days": 7 * DAY_MS}
SEED = 1
TEST_ROWS = 10_000  # of each kind


@dataclass(frozen=True)
class Log:
    """All events, with what makes rows of them."""

    settings: Settings
    known: KnownEvents
    labels: LabelCollector

    def rows(self, moments: Moments, features_at: Moments | None = None) -> LabelledRows:
        """Rows at these moments in their order; features as of others, one for each."""
        of = moments if features_at is None else features_at
        unique = distinct(of.customer, of.as_of_ms)
        found = list(rows_at(self.known, unique, self.settings.feature_space()))
        at = np.concatenate([p for p, _ in found])
        back = np.empty(len(at), np.int64)
        back[at] = np.arange(len(at))
        matrix = sparse.vstack([m for _, m in found], format="csr")
        ids = [self.known.customer_ids[c] for c in moments.customer.tolist()]
        return LabelledRows(
            ids, moments.as_of_ms, matrix[back[unique.find(of.customer, of.as_of_ms)]],
            *self.labels.labels(ids, moments.as_of_ms),
        )  # fmt: skip

    def newest_ms(self, moments: Moments) -> Int64:
        """(M,) the newest event of each customer before its moment."""
        at = self._position(moments.customer, moments.as_of_ms) - 1
        newest: Int64 = self._times[at]
        return newest

    def acts_before(self, moments: Moments, lag_ms: int) -> np.ndarray:
        """(M,) whether an event follows within the lag."""
        first = self._position(moments.customer, moments.as_of_ms)
        return self._position(moments.customer, moments.as_of_ms + lag_ms) > first

    @cached_property
    def _order(self) -> Int64:
        return np.lexsort((self.known.known_at_ms, self.known.customer))

    @cached_property
    def _times(self) -> Int64:
        return self.known.known_at_ms[self._order]

    def _position(self, customer: np.ndarray, at_ms: Int64) -> Int64:
        base = np.int64(1) << 42  # more than any moment in ms
        key = self.known.customer[self._order].astype(np.int64) * base + self._times
        return np.searchsorted(key, customer.astype(np.int64) * base + at_ms)


def read(folder: Path) -> Log:
    complete_journey.events(folder)
    settings = Settings.load(folder / CONFIG_FILE, environment={})
    parts = open_events([folder / "events.parquet"], max_record_bytes=100_000)
    events: EventBatch = concatenate_events([part.events for part in parts])
    known = KnownEvents.of(events, events.occurred_at_ms)
    rule = settings.label_rule()
    labels = LabelCollector(rule, settings.feature_space().vocabularies[rule.by])
    labels.add(events)
    return Log(settings, known, labels)


def all_events(times: Sequence[int]) -> MomentSample:
    """The moments after all events between cut-offs."""
    return MomentSample(tuple(times), times[0], times[-1], SEED, event_share=Fraction(1))


def as_served(times: Sequence[int], horizon_ms: int) -> MomentSample:
    """The mix that `run` serves with a daily refresh, as `replay --cutoffs TIME..TIME` samples."""
    share = Fraction(DAY_MS, horizon_ms)
    return MomentSample((), times[0], times[-1], SEED, share, share, DAY_MS)


def newest_before(log: Log, times: Sequence[int]) -> Moments:
    """1 ms after the newest event between one cut-off and the next, of each customer with one."""
    found = all_events(times).taken(log.known)
    interval = np.searchsorted(np.array(times), found.as_of_ms)
    last = np.ones(len(interval), np.bool_)
    last[:-1] = (np.diff(found.customer) != 0) | (np.diff(interval) != 0)
    return Moments(found.customer[last], found.as_of_ms[last])


def sampled(moments: Moments, count: int) -> Moments:
    draw = np.random.default_rng(SEED)
    some = np.sort(draw.permutation(len(moments.customer))[:count])
    return Moments(moments.customer[some], moments.as_of_ms[some])


def first(rows: LabelledRows, count: int) -> LabelledRows:
    """So many rows, whichever; they are in the order of customers."""
    draw = np.random.default_rng(SEED)
    return rows.take(np.sort(draw.permutation(len(rows))[:count]))


def measured(p: np.ndarray, acted: np.ndarray) -> str:
    return (
        f"log loss {row_log_loss(p, acted).mean():.4f}, predicted/seen "
        f"{p.sum() / max(acted.sum(), 1):.2f}, ECE {ece(p, acted):.4f}"
    )


def difference(ours: np.ndarray, theirs: np.ndarray, rows: LabelledRows) -> str:
    customer = np.unique(np.array(rows.customer_ids), return_inverse=True)[1]
    found = bootstrap_difference(ours, theirs, customer)
    return f"{found.estimate:+.5f} ({found.low:+.5f} to {found.high:+.5f})"


def scores(engine: Engine, rows: LabelledRows) -> np.ndarray:
    return engine.score(rows.matrix)[:, :, 1]


def by_days_quiet(engine: Engine, log: Log, at: Moments, rows: LabelledRows, old: LabelledRows,
                  acted: np.ndarray) -> None:  # fmt: skip
    now, then = scores(engine, rows), scores(engine, old)
    quiet = (at.as_of_ms - log.newest_ms(at)) / DAY_MS
    for low, high in [(0, QUIET_DAYS[-1]), *pairwise(QUIET_DAYS)]:
        some = np.flatnonzero((quiet >= low) & (quiet < high))
        if len(some):
            say(f"  cut-offs, quiet {low} to {high} days ({len(some):,} rows): "
                f"{measured(now[some], acted[some])}; as of the last event "
                f"{measured(then[some], acted[some])}")  # fmt: skip


def lagging(engine: Engine, log: Log, events: Moments, index: Int64) -> None:
    """Records that are scored `lag` after their event, where nothing else has happened since."""
    for name, lag_ms in LAGS_MS.items():
        quiet = np.flatnonzero(~log.acts_before(events, lag_ms))
        then = Moments(events.customer[quiet], events.as_of_ms[quiet])
        now = Moments(then.customer, then.as_of_ms + lag_ms)
        fresh, stale = log.rows(now), log.rows(now, then)
        acted = dense_labels(fresh, index) > 0
        of_event, of_now = scores(engine, stale), scores(engine, fresh)
        losses = row_log_loss(of_event, acted), row_log_loss(of_now, acted)
        say(f"  scored {name} after the event ({len(quiet):,} rows): as of the event "
            f"{measured(of_event, acted)}; as of now {measured(of_now, acted)}; log loss as of the "
            f"event minus as of now {difference(*losses, fresh)}; largest move of a probability "
            f"{np.abs(of_event - of_now).max():.4f}")  # fmt: skip


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="of training, of each kind")
    parser.add_argument("--steps", type=int, default=800, help="of training, at least")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stream-scorer-quality-") as name:
        folder = Path(name)
        log = read(folder)
        times = cutoffs()
        at = {name: at_cutoffs(log.known, found) for name, found in times.items()}
        events = {
            name: all_events(found)
            .like_cutoffs(counted(log.known, all_events(found)))
            .taken(log.known)
            for name, found in times.items()
        }
        horizon_ms = log.settings.label_rule().horizon_ms
        served = {n: as_served(found, horizon_ms).taken(log.known) for n, found in times.items()}
        newest = {name: newest_before(log, found) for name, found in times.items()}
        # Of training and validation no more than is used, since making rows takes long.
        counts = {"train": given.rows, "validation": given.rows // 2, "test": TEST_ROWS}
        at["test"], events["test"] = (sampled(m["test"], TEST_ROWS) for m in (at, events))
        rows = {
            kind: {n: log.rows(sampled(found, counts[n])) for n, found in moments.items()}
            for kind, moments in (
                ("cut-offs", at),
                ("events", events),
                ("newest", newest),
                ("served", served),
            )
        }
        for kind, of in rows.items():
            say(f"rows as of {kind}: { {n: len(r) for n, r in of.items()} }")
        last = Moments(at["test"].customer, log.newest_ms(at["test"]) + 1)
        old = log.rows(at["test"], last)
        half = given.rows // 2
        mixes = {
            "cut-offs": [("cut-offs", given.rows)],
            "events": [("events", given.rows)],
            "newest event before a cut-off": [("newest", given.rows)],
            "cut-offs and events": [("cut-offs", half), ("events", half)],
            "served": [("served", given.rows)],
        }
        options = replace(log.settings.training, min_customers=MIN_CUSTOMERS, min_steps=given.steps)
        space, rule = log.settings.feature_space(), log.settings.label_rule()
        losses: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for mix, parts in mixes.items():
            shards = [first(rows[kind]["train"], count) for kind, count in parts]
            later = [first(rows[kind]["validation"], count // 2) for kind, count in parts]
            later = [concatenate_rows(later)]
            found = training.train(shards, later, space, rule, options)
            artefact.save(found, folder / mix)
            loaded = artefact.load(folder / mix)
            engine = NativeEngine(loaded)
            index = np.array(loaded.manifest.category_index, np.int64)
            say(f"trained as of {mix} ({time.monotonic() - started:.0f} s):")
            p = scores(engine, rows["events"]["test"])
            acted = dense_labels(rows["events"]["test"], index) > 0
            say(f"  just after events ({len(p):,} rows): {measured(p, acted)}")
            seen = dense_labels(rows["cut-offs"]["test"], index) > 0
            by_days_quiet(engine, log, at["test"], rows["cut-offs"]["test"], old, seen)
            losses[mix] = (
                row_log_loss(p, acted), row_log_loss(scores(engine, rows["cut-offs"]["test"]), seen)
            )  # fmt: skip
        lagging(engine, log, events["test"], index)
        ours = losses["cut-offs and events"]
        for mix in mixes:
            for kind, where, mine, other in zip(
                ("events", "cut-offs"), ("just after events", "at cut-offs"), ours, losses[mix],
                strict=True,
            ):  # fmt: skip
                gap = difference(mine, other, rows[kind]["test"])
                say(f"log loss {where}, trained as of both minus as of {mix}: {gap}")


if __name__ == "__main__":
    main()
