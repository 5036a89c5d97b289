"""A changed declaration rolled out under load: nothing left out, nothing published twice.

STREAM_SCORER_CHAOS_KILLS above 10 (`make chaos`) runs it without kills and with at least once, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from confluent_kafka import Message
from harness.answers import answers
from harness.member import Member, wait_until
from harness.rig import Rig
from harness.rollout_command import STEP_SECONDS, RolloutCommand
from harness.stream import EVENT_TYPES, FEATURES, SPACE, START_MS, VOCABULARIES, random_model
from harness.verdict import Truth, single_pass

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.errors import InputError
from stream_scorer.io.stores.bound_namespace import BEING_DROPPED
from stream_scorer.jobs import rollout as job
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

OLD_WORDS = {"attributes.channel": ("web", "app")}
OLD_SPACE = FeatureSpace.compile(FEATURES, {**VOCABULARIES, **OLD_WORDS}, EVENT_TYPES)
# A micro-batch has at most 25 records, and the new namespace may be ahead of what is published by
# as much as comes while a member is replaced.
LAG_RECORDS = 250
REFRESHED_MS = START_MS + 86_400_000_000
LONG = int(os.environ.get("STREAM_SCORER_CHAOS_KILLS", "10")) > 10
DELIVERIES = ["exactly_once", "at_least_once"] if LONG else ["exactly_once"]


@pytest.fixture
def commands() -> Iterator[Callable[[Path], RolloutCommand]]:
    with ExitStack() as stack:

        def make(config: Path) -> RolloutCommand:
            command = RolloutCommand(config)
            stack.callback(command.kill)
            return command

        yield make


@pytest.fixture
def new_model(tmp_path: Path) -> artefact.TrainedModel:
    """Of the labels that members' configs declare by default."""
    return replace(random_model(), labels=Settings().label_rule())


def of_old_model(output: list[Message]) -> set[str]:
    """Customers whose newest propensities the old declaration's model gave."""
    published = decode_propensities([m.value() or b"" for m in output])
    newest = dict[str, tuple[tuple[int, int], str]]()
    rows = zip(
        published.customer_ids, published.offset.tolist(), published.as_of_ms.tolist(),
        published.fingerprints, strict=True,
    )  # fmt: skip
    for customer, offset, as_of_ms, fingerprint in rows:
        if customer not in newest or (offset, as_of_ms) > newest[customer][0]:
            newest[customer] = (offset, as_of_ms), fingerprint
    assert {fingerprint for _, fingerprint in newest.values()} <= {
        SPACE.fingerprint_hex, OLD_SPACE.fingerprint_hex,
    }  # fmt: skip
    return {c for c, (_, fingerprint) in newest.items() if fingerprint != SPACE.fingerprint_hex}


def unanswered(truth: Truth, events: list[Message], output: list[Message], lag: int) -> list[str]:
    """Events not answered by when `lag` more records of their partition were done."""
    published = decode_propensities([m.value() or b"" for m in output])
    found = []
    for event, row in answers(truth, events, output, published):
        offset = event.offset() or 0
        if row is None or int(published.offset[row]) > offset + lag:
            found.append(f"{(event.key() or b'').decode()} at {event.partition()}:{offset}")
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_members_move_to_a_new_declaration_one_by_one_without_a_gap_or_a_repeat(
    make_rig: Callable[..., Rig],
    commands: Callable[[Path], RolloutCommand],
    new_model: artefact.TrainedModel,
    tmp_path: Path,
    delivery: str,
) -> None:
    kills = delivery == "exactly_once"  # after a kill at least once may repeat a micro-batch
    # For ever, because a refresh as of now would find customers of such old events forgotten.
    kept = {"time_to_live_seconds": 0}
    rig = make_rig(seed=41, settings={"kafka": {"delivery": delivery}, "store": kept})
    artefact.save(random_model(OLD_SPACE), tmp_path / "old-model")
    old_name, new_path = f"{rig.name}-old", tmp_path / "new-model"
    old = [
        rig.member(
            store={"namespace": old_name},
            model={"path": str(tmp_path / "old-model")},
            vocabularies=OLD_WORDS,
        ).start()
        for _ in range(2)
    ]
    slowly = {"customers_per_second": 10}  # so that the kills come while customers are refreshed
    new = [rig.member(model={"path": str(new_path)}, refresh=slowly) for _ in range(2)]
    rollout = commands(new[0].config)
    rig.publish(1500)
    for member in old:
        member.reading()
    rig.feed(150)
    rig.more_is_done()

    roll_out(rollout, old, new, lambda: artefact.save(new_model, new_path), kills=kills)
    rig.stop_feeding()  # so that what was left out at the move is not made good by later events
    refresh(rollout, new, kills=kills)
    settings = Settings.load(new[0].config, environment={})
    found = job.status(settings)
    assert (found.step, found.moved, found.replaces) == ("done", 6, old_name)
    with redis.Redis.from_url(rig.redis_url) as client:
        drop_old(rollout, client, old_name, kills=kills)
    assert job.status(settings).step == "dropped"
    assert all(member.running() for member in new)
    rig.members = new
    check(rig)


def roll_out(
    rollout: RolloutCommand,
    old: list[Member],
    new: list[Member],
    save_model: Callable[[], object],
    *,
    kills: bool,
) -> None:
    """Two members moved one after the other. kills: at each step of the command, and members."""
    rollout.start()
    if kills:
        rollout.says("folding")
        rollout.kill()  # while it builds
        rollout.start()
    rollout.says("waiting for a model")
    if kills:
        rollout.kill()  # while it waits
    save_model()
    if kills:
        rollout.start()
    rollout.says("0 of 6 partitions are read")

    move(old[0], new[0], kill=kills)
    if kills:
        rollout.kill()  # while both namespaces have members
        new[0].kill()
        new[0].start()
        new[0].reading()
        rollout.start()
        rollout.says("partitions are read for")
    move(old[1], new[1], kill=False)


def refresh(rollout: RolloutCommand, new: list[Member], *, kills: bool) -> None:
    """All customers scored again. kills: the command and a member, while that goes on."""
    rollout.says("their customers are scored again")
    if kills:
        rollout.kill()

        def begun() -> bool:
            return any(
                m.metric("stream_scorer_refresh_customers", outcome="refreshed") > 0 for m in new
            )

        wait_until("some customers are refreshed", begun, STEP_SECONDS)
        new[1].kill()
        rollout.start()
        rollout.says("their customers are scored again")
        new[1].start()
    assert rollout.ended() == 0


def drop_old(rollout: RolloutCommand, client: redis.Redis, name: str, *, kills: bool) -> None:
    """The old namespace deleted. kills: the command, while it deletes many keys."""
    if kills:
        # A member that was killed counts as running for half a minute.
        client.delete(f"{name}:members")
        for first in range(0, 200_000, 10_000):
            client.mset({f"{name}:more:{i}": b"" for i in range(first, first + 10_000)})
        rollout.start("--drop-old")
        mark = f"{name}:fingerprint"
        wait_until(
            "the namespace is being dropped",
            lambda: client.get(mark) == BEING_DROPPED.encode(), STEP_SECONDS,
        )  # fmt: skip
        rollout.kill()
        assert client.get(mark) == BEING_DROPPED.encode(), "it was dropped before the kill"
    rollout.start("--drop-old")
    assert rollout.ended() == 0
    assert list(client.scan_iter(f"{name}:*", 1000)) == []


def check(rig: Rig) -> None:
    """Every event was answered, once; what is stored and published last is right and new."""
    verdict = rig.finish(refreshed=True)
    events, output = rig.kafka.read_topic(rig.input), rig.kafka.read_topic(rig.output, settled=True)
    as_of_ms = decode_propensities([m.value() or b"" for m in output]).as_of_ms.tolist()
    # A refresh is as of now; all events are from long ago.
    of_events = [m for m, at in zip(output, as_of_ms, strict=True) if at < REFRESHED_MS]
    assert of_old_model(of_events), "every customer acted again, so nothing is shown"
    assert of_old_model(output) == set()
    verdict.assert_clean()
    assert (verdict.repeats, verdict.backwards) == (0, 0)
    assert unanswered(single_pass(events), events, of_events, LAG_RECORDS) == []


def move(old: Member, new: Member, *, kill: bool) -> None:
    """Stop one member, and start another in its place."""
    if kill:
        old.kill()
    else:
        old.ask_to_stop()
        assert old.ended() == 0, old.log()[-3000:]
    new.start()
    new.reading()


def test_a_roll_out_is_called_off_while_nobody_has_moved(
    make_rig: Callable[..., Rig], new_model: artefact.TrainedModel, tmp_path: Path
) -> None:
    rig = make_rig(seed=42, partitions=2)
    rig.publish(600)
    old = rig.member(store={"namespace": f"{rig.name}-old"}).start()
    old.reading()
    artefact.save(new_model, tmp_path / "new-model")
    new = rig.member(model={"path": str(tmp_path / "new-model")})
    settings = Settings.load(new.config, environment={})
    assert job.rollout(settings, wait=False).step == "switch"
    with pytest.raises(InputError, match="it is not replaced yet"):
        job.dropped_old(settings)
    job.cancel(settings)
    new.start()
    assert new.ended(120) == 2, new.log()[-3000:]
    assert "stop the members of" in new.log().splitlines()[-1]
    assert old.running()
