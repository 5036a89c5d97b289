"""How long each partition is silent while members of the group come and go, on real servers.

    python tests/containers/silence.py --protocol classic --out silence.json --plot silence.png

Two members read a topic with steady traffic on each partition. One after the other a third member
joins, leaves, joins, is killed, joins, is suspended; and one is suspended just before a fourth
joins, so that the group waits for it while the fourth wants partitions. For each of these the
longest pause between two propensities is written down by partition, apart for partitions that kept
their owner and for those that moved. Timings depend on the machine: nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import launch
import numpy as np
from harness.member import Member
from harness.rig import Rig
from harness.stream import random_model

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.model import artefact

PARTITIONS = 6
SETTLE_SECONDS = 6.0
Moment = tuple[str, float, float, list[int]]  # name, from, to, partitions that moved


class Course:
    """What is done to the members, and when."""

    def __init__(self, rig: Rig, session_seconds: float) -> None:
        self._rig, self._session = rig, session_seconds
        self.moments: list[Moment] = []

    def play(self) -> None:
        rig, long = self._rig, self._session + SETTLE_SECONDS
        first = rig.members[0]
        self._moment("nothing happens", lambda: None, SETTLE_SECONDS)
        self._moment("a member joins", self._join, SETTLE_SECONDS)
        self._moment("a member leaves", self._leave, SETTLE_SECONDS)
        self._moment("a member joins again", self._join, SETTLE_SECONDS)
        self._moment("a member is killed", self._kill, long)
        self._moment("a member joins once more", self._join, SETTLE_SECONDS)
        self._moment("a member is suspended", rig.members[-1].freeze, long)
        self._moment("it wakes", rig.members[-1].thaw, SETTLE_SECONDS)
        victim = rig.members[-1]
        self._moment(
            "a member is suspended, and another joins", lambda: self._join(victim.freeze), long
        )
        self._moment("it wakes again", victim.thaw, SETTLE_SECONDS)
        assert first.running()

    def _join(self, just_before: Callable[[], None] = lambda: None) -> None:
        member = self._rig.member().start()
        member.wait_for_log("joining group")
        just_before()

    def _leave(self) -> None:
        self._rig.members[-1].ask_to_stop()
        self._rig.members[-1].ended()

    def _kill(self) -> None:
        self._rig.members[-1].kill()
        self._rig.members[-1].asked_to_stop = True  # its end is no surprise

    def _moment(self, name: str, act: Callable[[], None], seconds: float) -> None:
        before = {m.name: len(m.whole_log()) for m in self._rig.members}
        began = time.time()
        act()
        time.sleep(seconds)
        moved: set[int] = set()
        for member in self._rig.members:
            moved |= _begun(member, before.get(member.name, 0))
        self.moments.append((name, began, time.time(), sorted(moved)))


def _begun(member: Member, since: int) -> set[int]:
    """The partitions that a member began to read."""
    lines = re.findall(r"\[(\d+)\]: reading", member.whole_log()[since:])
    return {int(number) for number in lines}


def silences(rig: Rig, moments: list[Moment]) -> list[dict[str, Any]]:
    """For each moment the longest pause between two propensities, in seconds by partition."""
    messages = rig.kafka.read_topic(rig.output, committed_only=False)
    published = decode_propensities([m.value() or b"" for m in messages])
    at = np.array([m.timestamp()[1] for m in messages]) / 1000
    found = []
    for name, began, ended, moved in moments:
        longest = {}
        for partition in range(PARTITIONS):
            mine = np.sort(at[(published.partition == partition) & (at >= began) & (at <= ended)])
            steps = np.diff(np.concatenate(([began], mine, [ended])))
            longest[partition] = round(float(steps.max()), 3)
        stayed = [s for p, s in longest.items() if p not in moved]
        went = [s for p, s in longest.items() if p in moved]
        found.append({
            "moment": name, "seconds": round(ended - began, 1), "moved": moved,
            "longest_silence_of_partitions_that_stay": max(stayed, default=None),
            "longest_silence_of_partitions_that_move": max(went, default=None),
            "by_partition": longest,
        })  # fmt: skip
    return found


def measure(settings: dict[str, Any], properties: dict[str, Any], session: float) -> dict[str, Any]:
    """One course. settings: of section kafka. session: the session time-out in seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = directory / "model"
        artefact.save(random_model(), model)
        kafka = launch.running_kafka() or launch.start_kafka({
            "group.consumer.session.timeout.ms": int(session * 1000),
            "group.consumer.heartbeat.interval.ms": 1000,
        })  # fmt: skip
        stack.callback(kafka.remove)
        redis = launch.running_redis() or launch.start_redis()
        stack.callback(redis.remove)
        name = f"silence-{time.time_ns()}"
        rig = Rig(
            directory, model, kafka, redis.url, name, partitions=PARTITIONS,
            settings={"kafka": settings, "kafka.properties": properties},
        )  # fmt: skip
        stack.callback(rig.close)
        rig.under_load(members=2, per_second=300)
        time.sleep(SETTLE_SECONDS)
        course = Course(rig, session)
        course.play()
        rig.stop_feeding()
        verdict = rig.finish()
        verdict.assert_clean()
        return {
            "settings": settings, "session_seconds": session,
            "moments": silences(rig, course.moments), "repeats": verdict.repeats,
        }  # fmt: skip


def plot(results: list[dict[str, Any]], to: Path) -> None:
    """One bar for each course and moment: partitions that stay, and those that move."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(2, 1, figsize=(11, 8), sharex=True)
    names = [m["moment"] for m in results[0]["moments"]]
    width = 0.8 / len(results)
    for axis, which in zip(axes, ("stay", "move"), strict=True):
        for number, result in enumerate(results):
            key = f"longest_silence_of_partitions_that_{which}"
            heights = [m[key] or 0 for m in result["moments"]]
            axis.bar(np.arange(len(names)) + number * width, heights, width, label=result["label"])
        axis.set_ylabel(f"partitions that {which}: longest silence, s")
        axis.grid(axis="y")
    axes[0].legend()
    axes[1].set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    figure.tight_layout()
    figure.savefig(to)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--protocol", choices=("classic", "consumer", ""), action="append")
    parser.add_argument("--delivery", default="at_least_once")
    parser.add_argument("--session", type=float, default=6.0, help="session time-out in seconds")
    parser.add_argument("--label", help="what the results are called; the protocol by default")
    parser.add_argument("--out", type=Path, required=True, help="JSON; added to a file that exists")
    parser.add_argument("--plot", type=Path, help="the results of the file as PNG")
    asked = parser.parse_args()
    results = json.loads(asked.out.read_text()) if asked.out.exists() else []
    for protocol in asked.protocol or ("classic", "consumer"):
        settings: dict[str, Any] = {"delivery": asked.delivery}
        if protocol:
            settings["group_protocol"] = protocol
        session = {"session.timeout.ms": int(asked.session * 1000), "heartbeat.interval.ms": 1000}
        result = measure(settings, session, asked.session)
        results.append({"label": asked.label or protocol, **result})
        asked.out.write_text(json.dumps(results, indent=1))
        for moment in result["moments"]:
            print(
                f"{moment['moment']:45} stay {moment['longest_silence_of_partitions_that_stay']}"
                f"  move {moment['longest_silence_of_partitions_that_move']}  {moment['moved']}"
            )
    if asked.plot:
        plot(results, asked.plot)


if __name__ == "__main__":
    main()
