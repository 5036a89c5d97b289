"""One group for each namespace, one namespace for each group: refused, or moved on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from harness.member import Member
from harness.rig import Rig
from servers import RedisServer

from stream_scorer.errors import InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.group_offsets import Owner, owner_in
from stream_scorer.live import group_binding
from stream_scorer.live.consumer import open_store
from stream_scorer.live.group_binding import bind_group
from stream_scorer.settings.tree import Settings

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]


def rig_that_caught_up(
    make_rig: MakeRig, seed: int, settings: dict[str, object] | None = None
) -> Rig:
    """One member has read the first records of the stream."""
    rig = make_rig(seed=seed, settings=settings)
    rig.publish(1500)
    rig.start()
    rig.caught_up()
    return rig


def refusal(member: Member) -> str:
    """The line with which it refused to run."""
    member.start()
    assert member.ended(120) == 2, member.log()[-3000:]
    assert "Traceback" not in member.log()
    return member.log().splitlines()[-1]


def doctors_findings(member: Member) -> list[str]:
    """What `doctor` says is wrong with the member's config."""
    command = [sys.executable, "-m", "stream_scorer", "doctor", "--json", "-c", str(member.config)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return [f["found"] for f in json.loads(ran.stdout)["findings"] if not f["ok"]]


def committed(rig: Rig, metadata: str | None = None) -> set[str | None]:
    """What the metadata of the committed offsets are; or set them, while no member is there."""
    probe = Consumer({"bootstrap.servers": rig.kafka.bootstrap, "group.id": rig.name})
    partitions = [TopicPartition(rig.input, p) for p in rig.kafka.end_offsets(rig.input)]
    found = [p for p in probe.committed(partitions, 10) if p.offset >= 0]
    if metadata is not None:
        again = [TopicPartition(p.topic, p.partition, p.offset, metadata) for p in found]
        probe.commit(offsets=again, asynchronous=False)
    probe.close()
    return {p.metadata for p in found}


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_one_group_in_two_namespaces_is_refused(make_rig: MakeRig, delivery: str) -> None:
    rig = rig_that_caught_up(make_rig, 21, {"kafka": {"delivery": delivery}})
    assert {owner_in(m).namespace for m in committed(rig)} == {rig.name}
    stray = rig.member(store={"namespace": f"{rig.name}-other"})
    line = refusal(stray)
    assert f"store.namespace: '{rig.name}-other'" in line
    assert f"stop the members of {rig.name} first" in line
    found = f"reads for namespace {rig.name}, the config names {rig.name}-other"
    assert found in doctors_findings(stray)
    rig.members.remove(stray)
    rig.publish(500)
    rig.finish().assert_clean()


def test_one_group_in_two_databases_is_refused(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rig_that_caught_up(make_rig, 26)
    monkeypatch.setattr(group_binding, "IDENTITY_SECONDS", 2.0)
    stray = Settings.load(rig.member(redis={"url": f"{rig.redis_url[:-1]}3"}).config)
    store = open_store(stray, stray.feature_space())
    admin = KafkaAdmin(stray.kafka.client_properties())
    with pytest.raises(InputError, match="in another Redis database"):
        bind_group(admin, stray.kafka, stray.store.namespace, store)
    assert not store.stored_identity()
    rig.stop()
    bind_group(admin, stray.kafka, stray.store.namespace, store)  # now it moves there
    assert admin.owners(rig.name, rig.input) == {Owner(rig.name, store.stored_identity())}
    store.close()


def test_a_member_that_starts_in_an_emptied_store_waits_until_the_others_have_put_it_back(
    make_rig: MakeRig, start_redis: Callable[..., RedisServer]
) -> None:
    server = start_redis()
    rig = make_rig(redis_url=server.url)
    rig.publish(1500)
    rig.start()
    rig.caught_up()
    second = rig.member()
    server.client.flushall()
    second.start()
    second.reading()
    rig.publish(500)
    rig.finish().assert_clean()


def test_two_groups_in_one_namespace_are_refused(make_rig: MakeRig) -> None:
    rig = rig_that_caught_up(make_rig, 22)
    stray = rig.member(kafka={"group_id": f"{rig.name}-other"})
    line = refusal(stray)
    assert f"kafka.group_id: '{rig.name}-other'" in line
    assert f"stop the members of {rig.name} first" in line
    found = f"belongs to group {rig.name}, the config names {rig.name}-other"
    assert found in doctors_findings(stray)
    rig.members.remove(stray)
    verdict = rig.finish()
    verdict.assert_clean()
    assert verdict.repeats == 0


def test_a_namespace_moves_to_another_group_once_nobody_uses_it(make_rig: MakeRig) -> None:
    rig = rig_that_caught_up(make_rig, 23)
    (old,) = rig.members
    rig.stop()
    new = rig.member(kafka={"group_id": f"{rig.name}-other"}).start()
    new.wait_for_log("moves from group .* to group")
    new.reading()
    # The new group reads on from the watermarks; the old one may not come back beside it.
    assert "group_id" in refusal(old)
    assert new.running()


def test_a_group_moves_to_another_namespace_once_it_has_no_members(make_rig: MakeRig) -> None:
    rig = rig_that_caught_up(make_rig, 24)
    (old,) = rig.members
    rig.stop()
    other = f"{rig.name}-other"
    new = rig.member(store={"namespace": other}).start()
    new.wait_for_log("moves from namespace .* to")
    new.reading()
    assert {owner_in(m).namespace for m in committed(rig)} == {other}
    assert "store.namespace" in refusal(old)
    assert new.running()


def test_offsets_that_an_older_version_committed_are_taken(make_rig: MakeRig) -> None:
    rig = rig_that_caught_up(make_rig, 25)
    (member,) = rig.members
    rig.stop()
    committed(rig, metadata="")
    member.start()
    member.reading()
    rig.publish(1500)
    rig.finish().assert_clean()
    assert rig.name in {owner_in(m).namespace for m in committed(rig)}
