"""Members and announcements in Redis: bounded, by one clock, and never changed by two at once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from stream_scorer.errors import InputError
from stream_scorer.io.stores import members as module
from stream_scorer.io.stores.announcements import Announcements, ModelIdentity
from stream_scorer.io.stores.member_status import MemberStatus
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.stores.redis_server import RedisServer

SAID = MemberSaid(
    "m1", "stream-scorer-a", "a", 7, (0, 2), "v1", "/models/a", 0, "00ff", "0.1.0", "serving", "",
    1_700_000_000_000,
)  # fmt: skip
A, B, C = (ModelIdentity(f"/models/{name}", f"v-{name}", f"sha-{name}") for name in "abc")


@pytest.fixture
def members(client: Any) -> Members:
    return Members(RedisServer(client), "shop")


@pytest.fixture
def announcements(client: Any) -> Announcements:
    return Announcements(RedisServer(client), "shop")


def silence(client: Any, member: str, seconds: float) -> None:
    """As if the member had said nothing for so long."""
    stored = json.loads(client.get("shop:members"))
    stored[member]["at"] -= int(1000 * seconds)
    client.set("shop:members", json.dumps(stored))


def test_members_are_read_as_they_said(members: Members) -> None:
    members.beat(SAID)
    members.beat(replace(SAID, member="m2", partitions=(), state="refused", reason='a "reason"\n'))
    members.beat(replace(SAID, model_version="v2"))
    (first, second), _ = members.all()
    assert (first.member, first.model_version, first.partitions) == ("m1", "v2", (0, 2))
    assert (second.partitions, second.reason) == ((), 'a "reason"\n')
    assert not first.gone
    assert first.silent_seconds < 10


def test_a_silent_member_is_gone_and_later_forgotten(members: Members, client: Any) -> None:
    members.beat(SAID)
    silence(client, "m1", module.ALIVE_SECONDS + 1)
    members.beat(replace(SAID, member="m2"))
    (here, gone), _ = members.all()
    assert (here.member, here.gone) == ("m2", False)
    assert (gone.member, gone.gone) == ("m1", True)
    silence(client, "m1", module.KEPT_SECONDS)
    members.beat(replace(SAID, member="m2"))
    assert [m.member for m in members.all()[0]] == ["m2"]


def test_a_member_that_stops_takes_itself_out(members: Members, client: Any) -> None:
    members.beat(SAID)
    members.leave("m1")
    assert members.all()[0] == ()
    assert client.get("shop:members") == b"{}"


def test_members_are_bounded_and_those_heard_last_stay(
    members: Members, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 3)
    for number in range(5):
        members.beat(replace(SAID, member=f"m{number}"))
        silence(client, f"m{number}", 10 - number)
    assert [m.member for m in members.all()[0]] == ["m2", "m3", "m4"]
    members.beat(replace(SAID, member="m4"))
    assert 0 < client.pttl("shop:members") <= 1000 * module.KEPT_SECONDS


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"m": 3}', '{"m": {"at": "x"}}'])
def test_what_another_program_wrote_is_replaced(members: Members, client: Any, text: str) -> None:
    client.set("shop:members", text)
    assert members.all()[0] == ()
    members.beat(SAID)
    assert [m.member for m in members.all()[0]] == ["m1"]


def test_a_member_of_another_release_is_passed_over(members: Members, client: Any) -> None:
    members.beat(SAID)
    stored = json.loads(client.get("shop:members"))
    stored["m9"] = {"at": stored["m1"]["at"], "said": '{"member": "m9"}'}
    client.set("shop:members", json.dumps(stored))
    assert [m.member for m in members.all()[0]] == ["m1"]


def test_a_member_says_how_its_work_goes(members: Members, client: Any) -> None:
    status = MemberStatus(events_per_second=3.5, dead_letters={"undecodable": 2}, lag_records=7)
    members.beat(replace(SAID, status=status))
    assert members.all()[0][0].status == status
    stored = json.loads(client.get("shop:members"))
    for other in ({"lag": "x"}, None, 3):
        said = json.loads(stored["m1"]["said"]) | {"status": other}
        client.set("shop:members", json.dumps({"m1": stored["m1"] | {"said": json.dumps(said)}}))
        (member,) = members.all()[0]
        assert (member.model_version, member.status) == ("v1", None)


def test_announcements_rise_and_name_the_one_before(announcements: Announcements) -> None:
    assert announcements.current() is None
    first = announcements.announce(A, B)
    assert (first.number, first.model, first.previous) == (1, A, B)
    second = announcements.announce(C, B)
    assert (second.number, second.model, second.previous) == (2, C, A)
    assert second.announced_ms > first.announced_ms
    assert announcements.current() == second


def test_of_two_who_announce_at_once_one_is_refused(
    announcements: Announcements, client: Any
) -> None:
    other = Announcements(RedisServer(client), "shop")
    read = other._text
    other._text = lambda: (text := read(), announcements.announce(A, None))[0] and text  # type: ignore[method-assign]
    with pytest.raises(InputError, match="at the same moment"):
        other.announce(B, None)
    found = announcements.current()
    assert found is not None
    assert found.model == A


def test_a_lost_announcement_is_written_again_and_a_later_one_stays(
    announcements: Announcements, client: Any
) -> None:
    announcements.announce(A, None)
    known = announcements.announce(B, None)
    client.flushall()
    assert announcements.write_again(known) == known
    assert announcements.current() == known
    client.flushall()
    while 1000 * client.time()[0] + client.time()[1] // 1000 <= known.announced_ms:
        time.sleep(0.001)  # B was announced within a millisecond of A, so as of the next one
    later = announcements.announce(C, None)  # before the members have looked
    assert later.number < known.number
    assert announcements.write_again(known) == later
    assert announcements.current() == later


@pytest.mark.parametrize(
    "text", ["x", "[]", "{}", '{"number":"1","model":{},"previous":null,"announced_ms":1}']
)
def test_an_announcement_of_another_program_is_named(
    announcements: Announcements, client: Any, text: str
) -> None:
    client.set("shop:model", text)
    with pytest.raises(InputError, match="stored announcement: 'shop:model'"):
        announcements.current()
