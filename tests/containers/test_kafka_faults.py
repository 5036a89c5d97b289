"""The broker restarts, topics refuse, grow and are made anew."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest
from harness.member import Member, wait_until
from harness.rig import Rig
from servers import KafkaServer

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.core.events.batch import Reason

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]
OFTEN = {"kafka.properties": {"topic.metadata.refresh.interval.ms": 500}}


def waits(rig: Rig) -> float:
    return sum(m.metric("stream_scorer_waits", server="kafka") for m in rig.members)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_broker_restarts_under_load(
    make_rig: MakeRig, start_kafka: Callable[..., KafkaServer], delivery: str
) -> None:
    kafka = start_kafka()
    rig = make_rig(kafka, settings={"kafka": {"delivery": delivery}})
    rig.under_load(backlog=3000)
    for end in (kafka.kill, kafka.stop):
        rig.stop_feeding()
        rig.publish(1500)
        end()
        kafka.start()
        rig.feed(300)
        rig.more_is_done()
    rig.stop_feeding()
    verdict = rig.finish()
    print(f"{delivery}: {verdict}")
    verdict.assert_clean()
    if delivery == "exactly_once":
        assert verdict.repeats == 0


def test_output_topic_that_is_missing_is_waited_for(make_rig: MakeRig) -> None:
    rig = make_rig(seed=7, customers=100)
    rig.under_load(backlog=500)
    assigned = [m.log().count("assigned") for m in rig.members]
    rig.kafka.delete_topic(rig.output)
    wait_until("members wait", lambda: waits(rig) >= 2, 90)
    said = f"there is no topic {rig.output}: create it with `stream-scorer topics create`"
    assert any(said in m.log() for m in rig.members)
    rig.kafka.create_topic(rig.output, 4)
    # Every customer comes again, since Kafka has lost what was published before.
    rig.more_is_done(4000)
    rig.stop_feeding()
    rig.caught_up()
    assert [m.log().count("assigned") for m in rig.members] == assigned
    rig.finish().assert_clean()


def test_output_topic_with_a_limit_below_every_record_stops_no_member(make_rig: MakeRig) -> None:
    rig = make_rig(seed=8, output_config={"max.message.bytes": 120})
    rig.publish(200)
    rig.start()
    verdict = rig.finish()
    # State and account of events are right; every propensity record is a dead letter instead.
    found_in = {f.what for f in verdict.findings}
    assert found_in == {"propensities", "dead letter"}
    dead_letters = decode_dead_letters([m.value() or b"" for m in rig.kafka.read_topic(rig.dead)])
    reasons = [dead_letter.reason for dead_letter in dead_letters]
    assert reasons.count(Reason.OVERSIZED) >= verdict.customers


def test_partitions_are_added_while_running(make_rig: MakeRig) -> None:
    rig = make_rig(seed=9, settings=OFTEN)
    rig.under_load()
    # A customer may move to another partition; its order is then the producers' own matter.
    rig.stop_feeding()
    rig.caught_up()
    rig.kafka.add_partitions(rig.input, 9)
    wait_until("the producer sees them", lambda: published_to(rig, 8), 30)
    rig.feed(300)
    rig.more_is_done()
    rig.stop_feeding()
    rig.caught_up()
    assert rig.committed().keys() == set(range(9))
    rig.finish(moved=True).assert_clean()


def published_to(rig: Rig, partition: int) -> bool:
    rig.publish(20)
    return rig.kafka.end_offsets(rig.input)[partition] > 0


def read_beyond_a_copy(rig: Rig, kafka: KafkaServer) -> tuple[Member, bytes]:
    """A member that has read 1,000 records, and the log as it was with the first 500."""
    rig.publish(500)
    kafka.stop()
    older = kafka.copy_of_log(rig.input, 0)
    kafka.start()
    rig.publish(500)
    (member,) = rig.start()
    rig.caught_up()
    return member, older


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_log_that_lost_records_while_nobody_read_it_and_grew_again_is_refused(
    make_rig: MakeRig, start_kafka: Callable[..., KafkaServer], delivery: str
) -> None:
    """Without leader epochs every offset looks right, and the new records below the committed one
    are never read."""
    kafka = start_kafka()
    rig = make_rig(kafka, seed=12, partitions=1, settings={"kafka": {"delivery": delivery}})
    member, older = read_beyond_a_copy(rig, kafka)
    rig.stop()
    kafka.stop()
    kafka.restore_log(rig.input, 0, older)
    kafka.start()
    assert kafka.end_offsets(rig.input) == {0: 500}
    kafka.produce(rig.input, rig.stream.take(1500))
    member.start()
    assert member.ended() == 1
    last = member.log().splitlines()[-1]
    assert f"{rig.input}[0]: Kafka lost its records from offset 500 on" in last
    assert "set store.namespace and kafka.group_id to new names" in last
    assert "Traceback" not in member.log()


def test_log_that_lost_records_while_it_was_read_is_refused(
    make_rig: MakeRig, start_kafka: Callable[..., KafkaServer]
) -> None:
    kafka = start_kafka()
    rig = make_rig(kafka, seed=13, partitions=1)
    member, older = read_beyond_a_copy(rig, kafka)
    kafka.stop()
    kafka.restore_log(rig.input, 0, older)
    kafka.start()
    kafka.produce(rig.input, rig.stream.take(1500))
    assert member.ended(60) == 1
    last = member.log().splitlines()[-1]
    assert f"{rig.input}[0]: Kafka lost its records from offset 500 on" in last


@pytest.mark.parametrize("records", [200, 3000])
def test_input_topic_that_was_created_again_is_refused(make_rig: MakeRig, records: int) -> None:
    """With fewer records than before, and with more, where every old offset still exists."""
    rig = make_rig(seed=10, partitions=2, settings=OFTEN)
    rig.publish(1000)
    (member,) = rig.start()
    rig.caught_up()
    rig.stop()
    rig.kafka.delete_topic(rig.input)
    rig.kafka.create_topic(rig.input, 2)
    rig.publish(records)
    member.start()
    assert member.ended() == 1
    last = member.log().splitlines()[-1]
    assert "the topic was deleted and created again" in last
    assert "set store.namespace and kafka.group_id to new names" in last
    assert "Traceback" not in member.log()


def test_input_topic_that_is_created_again_while_running_is_refused(make_rig: MakeRig) -> None:
    rig = make_rig(seed=11, partitions=2, settings=OFTEN)
    rig.publish(1000)
    (member,) = rig.start()
    rig.caught_up()
    rig.kafka.delete_topic(rig.input)
    rig.kafka.create_topic(rig.input, 2)
    Event().wait(0.5)
    rig.publish(3000)
    assert member.ended(60) == 1
    assert "the topic was deleted and created again" in member.log().splitlines()[-1]
