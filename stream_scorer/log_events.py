"""The events that log lines of a consumer report, each by a stable name and typed fields: one list.

    log.info("partitions assigned: %s", text, extra=event("partitions_assigned", partitions=[3]))

The text is for people and may change. With `telemetry.log_format = "json"` a line also has the name
under `event` and the fields beside it; names and fields, once released, stay. No field has a secret
in it, nor what a customer did. A line without an event has none that anybody should count on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool | list[int]
# What every line has, so that no field may have such a name.
COMMON = ("time", "level", "logger", "message", "event", "error")


@dataclass(frozen=True)
class LogEvent:
    """What one event means, and its fields with the type of each."""

    meaning: str
    fields: Mapping[str, type] = field(default_factory=dict)


_PARTITIONS: Mapping[str, type] = {"topic": str, "partitions": list}
_POSITION: Mapping[str, type] = {"topic": str, "partition": int, "offset": int}

LOG_EVENTS: Mapping[str, LogEvent] = {
    # A process, from its start to its end.
    "consumer_started": LogEvent(
        "All is read and compiled, and the group is about to be joined",
        {"model_version": str, "categories": int, "columns": int, "group": str},
    ),
    "stop_asked": LogEvent("A signal asked to stop", {"signal": str}),
    "stop_timed_out": LogEvent("A stop took too long, and the process was ended"),
    "consumer_stopped": LogEvent(
        "It has stopped, and this is what it did since its start",
        {
            "records": int, "applied": int, "dead_letters": int, "propensities": int,
            "batches": int, "seconds": float,
        },
    ),
    "config_changed": LogEvent(
        "A setting was read again and is used from now on", {"setting": str}
    ),
    "config_needs_restart": LogEvent(
        "A setting was read again, has changed, and is left as it is", {"setting": str}
    ),
    "config_wrong": LogEvent("The config was read again and is wrong, so nothing changes"),
    "config_unchanged": LogEvent("The config was read again and says the same"),
    # The processes of a supervisor, by their numbers.
    "process_started": LogEvent("A member was started", {"process": int, "pid": int}),
    "process_ended": LogEvent(
        "A member ended and will be started again; a status below 0 is a signal's",
        {"process": int, "status": int},
    ),
    "process_killed": LogEvent(
        "A member was stuck, or no longer answered, and was killed", {"process": int}
    ),
    # The group and its partitions.
    "group_protocol_chosen": LogEvent(
        "How the group is joined", {"group": str, "protocol": str}
    ),
    "partitions_assigned": LogEvent("The group gave these partitions, or none", _PARTITIONS),
    "partitions_revoked": LogEvent("The group asked for these partitions", _PARTITIONS),
    "partitions_lost": LogEvent(
        "The group had taken these partitions before their offsets were committed", _PARTITIONS
    ),
    "member_evicted": LogEvent(
        "The group had evicted this member, and gave the partitions back", _PARTITIONS
    ),
    "partition_begun": LogEvent("A partition is read from this offset on", _POSITION),
    "partition_begun_below_committed": LogEvent(
        "A partition is read again from below its committed offset, since the store lacks writes",
        {**_POSITION, "records": int},
    ),
    "partition_begins_late": LogEvent(
        "A new group reads a log whose first events are gone", _POSITION
    ),
    "namespace_moved": LogEvent(
        "A namespace is read for by another group from now on", {"namespace": str, "group": str}
    ),
    # Servers.
    "server_awaited": LogEvent(
        "A server did not answer: it is tried again after a while",
        {"server": str, "delay_seconds": float},
    ),
    "group_joined_anew": LogEvent(
        "A client is lost: a new one joins the group after a while", {"delay_seconds": float}
    ),
    "store_rewound": LogEvent(
        "The store has lost its newest writes: these partitions are read again", _PARTITIONS
    ),
    "keys_evicted": LogEvent("Redis deleted keys for lack of memory", {"keys": int}),
    "record_too_large": LogEvent(
        "A topic refused a propensity record, which becomes a dead letter",
        {"topic": str, "size_bytes": int},
    ),
    # Once a minute.
    "progress": LogEvent(
        "Records that were worked on since the start, and records not read yet",
        {"records": int, "lag_records": int},
    ),
    "records_refused": LogEvent(
        "Records became dead letters since the last report", {"reason": str, "records": int}
    ),
    "values_ignored": LogEvent(
        "Events had a value that features can't use",
        {"field": str, "problem": str, "events": int},
    ),
    "keys_foreign": LogEvent(
        "Events had another key than the customer id", {"events": int}
    ),
    "customers_split": LogEvent(
        "Customers had events in two partitions", {"customers": int}
    ),
    # Models.
    "model_announced": LogEvent(
        "Another model is announced and is being read",
        {"model_version": str, "announcement": int, "path": str},
    ),
    "model_served": LogEvent(
        "An announced model is served from now on",
        {"model_version": str, "announcement": int, "seconds": float},
    ),
    "model_refused": LogEvent(
        "An announced model can't be served here; it is tried again",
        {"model_version": str, "announcement": int, "delay_seconds": float},
    ),
    "announcement_lost": LogEvent(
        "Redis lost an announcement, which is written again",
        {"model_version": str, "announcement": int},
    ),
    "challenger_failed": LogEvent(
        "The challenger failed and is off until the next start", {"model_version": str}
    ),
    "challenger_unfit": LogEvent(
        "The challenger does not fit the active model, and is off", {"model_version": str}
    ),
    "challenger_fit": LogEvent(
        "The challenger works again, beside another active model", {"model_version": str}
    ),
    # The refresh, and the shop's trend.
    "refresh_begun": LogEvent(
        "Quiet customers of these partitions are scored again", {"partitions": list}
    ),
    "refresh_done": LogEvent("The round of a refresh is over", {"seconds": float}),
    "trend_incomplete": LogEvent(
        "Kafka's log begins after what the shop's trend has counted of a partition",
        {**_POSITION, "missing_offsets": int},
    ),
}  # fmt: skip


def event(name: str, **fields: Value) -> dict[str, object]:
    """For `extra` of a log call: the event `name` of `LOG_EVENTS` with its fields."""
    return {"event": name, "fields": fields}
