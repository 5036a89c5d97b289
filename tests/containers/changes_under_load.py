"""Latency over time while a model is switched, shadowed and rolled back, and a declaration rolled
out, on real servers.

    python tests/containers/changes_under_load.py --out changes.json --plot changes.png

Two members read a topic to which events come at a steady rate. One after the other: another model
is announced; the members are restarted with a third one in the shadow; restarted without it; the
announced model is rolled back; and a changed declaration is rolled out, with a restart of each
member and a refresh of all customers. An event's latency is the time from its producer to when the
broker has the propensities that answer it (with exactly once a reader sees them a little later,
when their transaction is committed). A table and a plot show it before, during and after
each change. Exit status 1: an event was not answered, or something was published twice. Timings
depend on the machine: nothing is asserted of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import launch
import numpy as np
import numpy.typing as npt
from confluent_kafka import Producer
from harness.answers import answers
from harness.member import Member, wait_until
from harness.rig import Rig
from harness.rollout_command import RolloutCommand
from harness.stream import EVENT_TYPES, FEATURES, VOCABULARIES, random_model
from harness.verdict import single_pass
from servers import QUIET_CLIENT

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.jobs import announced_models
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

PARTITIONS, CUSTOMERS, MEMBERS = 6, 5000, 2
BACKLOG = 2000  # events before the first moment that is measured
OLD_WORDS = {"attributes.channel": ("web", "app")}
SLICE_SECONDS = 0.005
WAIT_SECONDS = 60
AROUND_SECONDS = 10.0  # what counts as before and as after a change
Floats = npt.NDArray[np.float64]


class SteadyFeed:
    """Publishes the rig's stream at a steady rate, until stopped."""

    def __init__(self, rig: Rig, per_second: int) -> None:
        self._rig, self._rate, self._stop = rig, per_second, threading.Event()
        self._refused: list[Any] = []
        # Idempotent, so that the producer itself repeats nothing.
        self._producer = Producer({
            "bootstrap.servers": rig.kafka.bootstrap, "enable.idempotence": True, "linger.ms": 1,
            "partitioner": "murmur2_random", **QUIET_CLIENT,
        })  # fmt: skip
        self._producer.list_topics(rig.input, timeout=30)  # connected before the first event
        self._thread = threading.Thread(target=self._run, name="feed")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert not self._producer.flush(30), "not all events were published"
        assert not self._refused, self._refused[:3]

    def _run(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stop.wait(SLICE_SECONDS):
            due = int((time.monotonic() - started) * self._rate)
            for key, value in self._rig.stream.take(due - sent):
                self._producer.produce(
                    self._rig.input, key=key, value=value,
                    on_delivery=lambda error, _: self._refused.append(error) if error else None,
                )  # fmt: skip
            sent = due
            self._producer.poll(0)


class Course:
    """The members, what is done to them, and when. changes: name, begin and end, Unix seconds."""

    def __init__(self, rig: Rig, folder: Path, calm_seconds: float) -> None:
        self.rig, self._calm = rig, calm_seconds
        self.changes: list[tuple[str, float, float]] = []
        labels = Settings().label_rule()
        old_space = FeatureSpace.compile(FEATURES, {**VOCABULARIES, **OLD_WORDS}, EVENT_TYPES)
        for seed, name in enumerate(("first", "second", "third")):
            trained = random_model(old_space)
            draw = np.random.default_rng(seed)
            head = draw.normal(0, 0.3, trained.parameters["head_weight"].shape)
            parameters = {**trained.parameters, "head_weight": head.astype(np.float32)}
            artefact.save(replace(trained, labels=labels, parameters=parameters), folder / name)
        artefact.save(replace(random_model(), labels=labels), folder / "new")
        self._models = folder
        self.old = [self._old_member() for _ in range(MEMBERS)]
        shadow = {"path": str(folder / "third"), "mode": "shadow"}
        self._shadowed = [self._old_member(challenger=shadow) for _ in range(MEMBERS)]
        self._new = [rig.member(model={"path": str(folder / "new")}) for _ in range(MEMBERS)]

    def play(self) -> None:
        settings = Settings.load(self.old[0].config, environment={})
        time.sleep(self._calm)
        with self._change("model switched"):
            done = announced_models.announce(settings, self._models / "second", WAIT_SECONDS)
            assert done.ok, done.not_switched
        with self._change("shadow added"):
            self._replace(self.old, self._shadowed)
        with self._change("shadow removed"):
            self._replace(self._shadowed, self.old)
        with self._change("model rolled back"):
            done = announced_models.roll_back(settings, WAIT_SECONDS)
            assert done.ok, done.not_switched
        with self._change("declaration rolled out"):
            self._roll_out()
        rollout = RolloutCommand(self._new[0].config)
        rollout.start("--drop-old")
        assert rollout.ended() == 0
        self.rig.members = self._new

    def _old_member(self, **settings: dict[str, Any]) -> Member:
        return self.rig.member(
            store={"namespace": f"{self.rig.name}-old"}, vocabularies=OLD_WORDS,
            model={"path": str(self._models / "first")}, **settings,
        )  # fmt: skip

    def _replace(self, before: list[Member], after: list[Member]) -> None:
        """As a rolling update does: one stops, and another starts in its place."""
        for stopped, started in zip(before, after, strict=True):
            stopped.ask_to_stop()
            assert stopped.ended() == 0, stopped.log()[-3000:]
            started.start()
            started.reading()

    def _roll_out(self) -> None:
        rollout = RolloutCommand(self._new[0].config)
        rollout.start()
        rollout.says(f"0 of {PARTITIONS} partitions are read")
        self._replace(self.old, self._new)
        assert rollout.ended() == 0

    @contextmanager
    def _change(self, name: str) -> Iterator[None]:
        began = time.time()
        print(f"{name} ...", file=sys.stderr, flush=True)
        yield
        self.changes.append((name, began, time.time()))
        time.sleep(self._calm)


def measure(per_second: int, calm_seconds: float, kafka_settings: dict[str, Any]) -> dict[str, Any]:
    """The whole course."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # The jars and the Redis of a wheel, also where an engine for containers answers.
        kafka = launch.running_kafka() or launch.start_kafka(how=launch.PROCESSES)
        stack.callback(kafka.remove)
        redis = launch.running_redis() or launch.start_redis(how=launch.PROCESSES)
        stack.callback(redis.remove)
        # What the members of a declaration that goes away score with matters to no verdict.
        rig = Rig(
            folder, folder / "new", kafka, redis.url, f"changes-{time.time_ns()}",
            customers=CUSTOMERS, partitions=PARTITIONS,
            output_config={"message.timestamp.type": "LogAppendTime"},
            settings={
                "kafka": kafka_settings,
                "batch": {"max_events": 1000, "max_age_ms": 10},
                # For ever, because a refresh would find customers of such old events forgotten.
                "store": {"time_to_live_seconds": 0},
            },
        )  # fmt: skip
        stack.callback(rig.close)
        course = Course(rig, folder, calm_seconds)
        rig.publish(BACKLOG)
        for member in course.old:
            member.start()
        for member in course.old:
            member.reading()
        wait_until(
            "the group has caught up",
            lambda: sum(rig.committed().values()) >= BACKLOG, WAIT_SECONDS,
        )  # fmt: skip
        feed = SteadyFeed(rig, per_second)
        try:
            course.play()
        finally:
            feed.stop()
        verdict = rig.finish(refreshed=True)
        verdict.assert_clean()
        return {
            "events_per_second": per_second, "settings": kafka_settings,
            "repeats": verdict.repeats, "backwards": verdict.backwards,
            **_latencies(rig, course.changes),
        }  # fmt: skip


def _latencies(rig: Rig, changes: list[tuple[str, float, float]]) -> dict[str, Any]:
    """What was answered when, by second and around each change."""
    events = rig.kafka.read_topic(rig.input)
    output = rig.kafka.read_topic(rig.output, settled=True)
    published = decode_propensities([m.value() or b"" for m in output])
    found = answers(single_pass(events), events, output, published)
    sent = np.array([event.timestamp()[1] for event, _ in found]) / 1000
    written = np.array(
        [np.nan if row is None else output[row].timestamp()[1] / 1000 for _, row in found]
    )
    partition = np.array([event.partition() for event, _ in found])
    ms = 1000 * (written - sent)
    began = changes[0][1] - AROUND_SECONDS
    seconds = np.floor(sent - began).astype(np.int64)
    rows = []
    for name, first, last in changes:
        windows = {
            "before": (first - AROUND_SECONDS, first),
            "during": (first, last),
            "after": (last, last + AROUND_SECONDS),
        }
        row: dict[str, Any] = {"change": name, "at": first - began, "seconds": last - first}
        for which, (since, until) in windows.items():
            inside = (sent >= since) & (sent < until)
            row[which] = _quantiles(ms[inside])
        inside = (sent >= first) & (sent < last)
        pauses = [np.diff(np.unique(written[inside & (partition == p)])) for p in range(PARTITIONS)]
        row["longest_silence_seconds"] = max(float(p.max(initial=0.0)) for p in pauses)
        rows.append(row)
    return {
        "events": len(found),
        "unanswered": int(np.isnan(ms).sum()),
        "changes": rows,
        "by_second": {
            int(s): _quantiles(ms[seconds == s]) for s in np.unique(seconds) if s >= 0
        },
    }  # fmt: skip


def _quantiles(ms: Floats) -> dict[str, float]:
    known = ms[~np.isnan(ms)]
    if not len(known):
        return {"p50": float("nan"), "p99": float("nan"), "max": float("nan")}
    p50, p99 = np.percentile(known, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(known.max())}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Latency around each change, as Markdown."""
    yield "| change | took, s | before: p50 / p99 / max, ms | during | after |"
    yield "|---|---|---|---|---|"
    for row in found["changes"]:
        cells = [
            " / ".join(f"{row[which][q]:,.0f}" for q in ("p50", "p99", "max"))
            for which in ("before", "during", "after")
        ]
        yield f"| {row['change']} | {row['seconds']:.1f} | {' | '.join(cells)} |"


def plot(found: dict[str, Any], to: Path) -> None:
    """p50, p99 and maximum of each second, with the changes."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker  # noqa: PLC0415

    figure, axis = pyplot.subplots(figsize=(10, 4.2))
    seconds = list(found["by_second"])
    at = [int(s) for s in seconds]
    for name in ("max", "p99", "p50"):
        axis.plot(at, [found["by_second"][s][name] for s in seconds], label=name, linewidth=1)
    for number, row in enumerate(found["changes"]):
        axis.axvspan(row["at"], row["at"] + row["seconds"], color="grey", alpha=0.2, linewidth=0)
        # One above the other, because two changes may be close to each other.
        place = (row["at"], 1.01 + 0.05 * (number % 2))
        axis.annotate(row["change"], place, xycoords=("data", "axes fraction"), fontsize=8)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
    axis.yaxis.set_major_formatter("{x:.0f}")
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_ylabel("event to propensities, ms")
    axis.set_xlabel(f"seconds, at {found['events_per_second']:,} events a second")
    axis.legend(loc="upper right", ncols=3)
    axis.grid(axis="y", alpha=0.4)
    figure.tight_layout()
    figure.savefig(to, dpi=80)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--calm", type=float, default=15.0, help="seconds between two changes")
    parser.add_argument("--delivery", default="at_least_once")
    parser.add_argument("--protocol", choices=("classic", "consumer"), default="consumer")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--plot", type=Path, help="PNG")
    asked = parser.parse_args()
    found = measure(
        asked.rate, asked.calm, {"delivery": asked.delivery, "group_protocol": asked.protocol}
    )
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1))
    if asked.plot:
        plot(found, asked.plot)
    for line in table(found):
        print(line)
    wrong = found["unanswered"] + found["repeats"]
    print(
        f"{found['events']:,} events: {found['unanswered']} without an answer, "
        f"{found['repeats']} records published twice, {found['backwards']} behind a newer one; "
        "longest silence of a partition during a change: "
        + ", ".join(f"{r['change']} {r['longest_silence_seconds']:.1f} s" for r in found["changes"])
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
