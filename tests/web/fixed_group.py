"""A group as its members describe it, always the same: for tests of pages and their pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stream_scorer.customers.reader import CustomerReader
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.stores.member_status import (
    STEPS,
    ChallengerSaid,
    Latency,
    MemberStatus,
    PartitionLag,
)
from stream_scorer.io.stores.members import Member
from stream_scorer.settings.tree import Settings
from stream_scorer.web.access import Access
from stream_scorer.web.application import Parts, application
from stream_scorer.web.group_status import Group, GroupStatus, group_status
from stream_scorer.web.look_ups import LookUps
from stream_scorer.web.server import WebServer, listen
from stream_scorer.web.workers import Workers

NOW_MS = 1_795_600_815_000  # 2026-11-25
GROUP = Group("shop", "stream-scorer", "customer-events", "category-propensities")
ACTIVE, SHADOW = "2026-11-23-4f1c9a", "2026-11-25-b07e21"
ANNOUNCEMENT = Announcement(
    3, ModelIdentity(f"/models/{ACTIVE}", ACTIVE, "4f1c9a"), None, NOW_MS - 190_000_000
)


def recent(number: int, level: float) -> tuple[float, ...]:
    """A day's breath in ten minutes."""
    return tuple(
        round(level * (1 + 0.18 * math.sin(0.31 * i + number) + 0.07 * math.sin(1.9 * i)), 1)
        for i in range(STEPS)
    )


def said_by(number: int) -> MemberStatus:
    events = recent(number, 1400 + 150 * number)
    lag = recent(number + 3, 60.0)
    return MemberStatus(
        ready_reason="4 partitions are read", alive_reason="the last step ended 0.1 s ago",
        events_per_second=events[-1],
        events={"applied": 41_804_377 + 90_001 * number, "duplicate": 1204},
        dead_letters={"unknown_event_type": 118 + number, "time_too_late": 31, "undecodable": 4},
        ignored_values={"category_id": 2100 + number},
        propensities=28_118_204 + 1000 * number,
        lag=tuple(PartitionLag(4 * number + p, 9 + 11 * p, 0.1 * p) for p in range(4)),
        lag_records=round(lag[-1]), lag_seconds=0.3,
        latency=Latency(112.0 + number, 318.0 + 9 * number, 81_000),
        stage_ms={"poll": 6.1, "decode": 1.4, "load": 2.9, "apply": 1.2, "save": 4.4, "csr": 1.9,
                  "score": 11.8, "encode": 2.2, "publish": 8.5, "commit": 1.7},
        rebalances={"assigned": 2, "revoked": 1}, waits={"redis": 1}, store_rewinds=0,
        refused_writes=2, refresh_progress=0.42, oldest_score_seconds=86_400 + 1200 * number,
        challenger=ChallengerSaid(SHADOW, "shadow", True, 0.914),
        drift={"feature_psi": 0.131, "score_psi": 0.018, "worst_category_psi": 0.184,
               "event_psi": 0.009, "mean_score": 0.0612, "mean_score_in_training": 0.0598,
               "live_recall_at_10_1d": 0.287, "live_log_loss": 0.1581},
        memory_bytes=912_000_000 + 10_000_000 * number,
        recent_until_ms=NOW_MS // 15_000 * 15_000, recent_events=events, recent_lag=lag,
    )  # fmt: skip


def member(number: int, **more: Any) -> Member:
    values: dict[str, Any] = {
        "member": f"m{number}", "client_id": f"scorer-{number}", "host": f"node-{number}",
        "pid": 4117 + number, "partitions": tuple(range(4 * number, 4 * number + 4)),
        "model_version": ACTIVE, "model_path": f"/models/{ACTIVE}", "announcement": 3,
        "fingerprint": "9d0c", "build": "0.1.0", "state": "serving", "reason": "",
        "started_ms": NOW_MS - 260_000_000, "silent_seconds": 1.2, "gone": False,
        "status": said_by(number),
    }  # fmt: skip
    return Member(**(values | more))


def well() -> GroupStatus:
    """Three members, all is well."""
    return group_status(GROUP, [member(n) for n in range(3)], ANNOUNCEMENT, NOW_MS)


def unwell() -> GroupStatus:
    """One is gone, one is not ready, one can't serve the announced model."""
    not_ready = replace(said_by(1), ready=False, ready_reason="has waited for redis for 41 s")
    members = [
        member(0, state="refused", reason="there is no such directory"),
        member(1, status=not_ready, partitions=()),
        member(2, gone=True, silent_seconds=74.0),
        member(3, status=None),
    ]
    return group_status(GROUP, members, ANNOUNCEMENT, NOW_MS)


class SteadyHealth:
    """The health of a consumer, as it is set."""

    def __init__(self) -> None:
        self.is_alive, self.is_ready = (True, "the last step ended 0.1 s ago"), (True, "reads 4")

    def alive(self, now: float) -> tuple[bool, str]:
        return self.is_alive

    def ready(self, now: float) -> tuple[bool, str]:
        return self.is_ready


def parts(read: Callable[[], GroupStatus] = well, **more: Any) -> Parts:
    """What `application` serves, on fixed data. Whoever asks for it closes the workers."""
    values: dict[str, Any] = {
        "group": GROUP, "build": "0.1.0", "access": Access(None, local=True),
        "health": SteadyHealth(), "read_status": read, "status_workers": Workers("status", 1, 8),
        "exposition": lambda _accept, _names: ("text/plain; charset=utf-8", b"things_total 3.0\n"),
    }  # fmt: skip
    return Parts(**(values | more))


def looked_up(settings: Settings, now_ms: int) -> dict[str, Any]:
    """Further parts: customers of this namespace, as of now_ms. Whoever asks closes the reader."""
    look_ups = LookUps(lambda: CustomerReader.open(settings, lambda: now_ms))
    return {"look_ups": look_ups, "look_up_workers": Workers("look-ups", 2, 8)}


def serve(read: Callable[[], GroupStatus] = well, **more: Any) -> WebServer:
    """A real server on a free port of loopback."""
    return WebServer(listen("127.0.0.1", 0, "port"), application(parts(read, **more)))
