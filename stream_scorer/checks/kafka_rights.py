"""Whether this user may do in Kafka what `run` will do.

What is allowed with topics and the group the brokers say themselves. What is allowed with a
transactional id they do not say, and `run`'s own id must not be tried: that would fence a consumer
that runs. So an id of doctor's own is tried, which begins as those of `run` do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stream_scorer.checks.finding import Finding
from stream_scorer.errors import BusUnavailable, Halt, NotAllowed, StreamScorerError
from stream_scorer.io.kafka.admin import KafkaAdmin, Topic
from stream_scorer.io.kafka.trial_transaction import try_transactions
from stream_scorer.settings.connections import KafkaSettings


def rights_findings(
    admin: KafkaAdmin, kafka: KafkaSettings, topics: Mapping[str, Topic]
) -> Iterator[Finding]:
    """What `run` will do and this user may not. topics: those that exist and may be described."""
    needed = {
        kafka.input_topic: "READ", kafka.output_topic: "WRITE", kafka.dead_letter_topic: "WRITE",
    }  # fmt: skip
    for topic, operation in needed.items():
        allowed = admin.operations(topic) if topic in topics else None
        if allowed is not None and operation not in allowed:
            verb = operation.capitalize()
            yield Finding(
                f"topic {topic}", f"this user may not {verb.lower()} it",
                f"allow this user {verb} on topic {topic}",
            )  # fmt: skip
    yield from _group(admin, kafka.group_id)
    if kafka.delivery == "exactly_once":
        yield _transactions(kafka)


def remedy_of(error: StreamScorerError) -> str:
    """What to do, also where the error itself does not say it."""
    if error.remedy:
        return error.remedy
    if isinstance(error, Halt):
        return "give this user the right that is missing, or the config another user"
    return "check kafka.bootstrap_servers, and that the brokers are up and let this user in"


def _group(admin: KafkaAdmin, group: str) -> Iterator[Finding]:
    try:
        allowed = admin.group_operations(group)
    except BusUnavailable as error:
        yield Finding(f"group {group}", f"its rights can't be asked: {error}")
        return
    except Halt:
        allowed = frozenset()
    if allowed is not None and "READ" not in allowed:
        yield Finding(
            f"group {group}", "this user may not join it", f"allow this user Read on group {group}"
        )


def _transactions(kafka: KafkaSettings) -> Finding:
    """Whether transactions can be started. The broker forgets an unused id after some days."""
    prefix, check = kafka.transactional_id, f"transactional id {kafka.transactional_id}"
    tried = f"{prefix}-doctor-of-{kafka.client_name}"
    right = f"Write on the transactional ids that begin with {prefix} (pattern type PREFIXED)"
    properties = {**kafka.sender_properties(), "transactional.id": tried}
    try:
        try_transactions(properties, right)
    except NotAllowed as error:
        found = f"this user may not use {tried}, which begins as the ids of `run` do: {error.found}"
        return Finding(check, found, error.remedy)
    except StreamScorerError as error:
        remedy = error.remedy or "exactly once needs the brokers' transaction coordinator"
        return Finding(check, f"no transaction can be started: {error.found}", remedy)
    return Finding(check, f"transactions can be started, tried with {tried}")
