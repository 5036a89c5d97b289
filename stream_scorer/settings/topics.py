"""What the three topics have to be like, and how a topic that exists falls short of it.

Lives here: that knowledge alone. Must not live here: asking or changing Kafka (io/kafka_admin.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from stream_scorer.settings.connections import KafkaSettings


class Problem(NamedTuple):
    """What is wrong and how to mend it."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be; `setting` names its number of partitions where that counts."""

    name: str
    partitions: int
    setting: str | None
    config: Mapping[str, str]


def topic_plans(kafka: KafkaSettings) -> tuple[TopicPlan, ...]:
    """Input, output and dead-letter topic."""
    # Compaction would drop events of a customer; the output keeps each customer's newest record.
    delete, compact = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
    return (
        TopicPlan(kafka.input_topic, kafka.input_partitions, "input_partitions", delete),
        TopicPlan(kafka.output_topic, kafka.output_partitions, "output_partitions", compact),
        TopicPlan(kafka.dead_letter_topic, 1, None, delete),
    )


def topic_problems(
    plan: TopicPlan, partitions: int | None, config: Mapping[str, str]
) -> list[Problem]:
    """How a topic falls short of its plan; partitions None where it does not exist."""
    if partitions is None:
        return [Problem("does not exist", "make it with `stream-scorer topics create`")]
    problems = []
    if plan.setting and partitions != plan.partitions:
        problems.append(
            Problem(
                f"has {partitions} partitions, kafka.{plan.setting} says {plan.partitions}",
                f"set kafka.{plan.setting} = {partitions}; changing the topic instead would move "
                "customers to other partitions",
            )
        )
    policy = config.get("cleanup.policy", "")
    if plan.config["cleanup.policy"] not in policy.split(","):
        wanted = plan.config["cleanup.policy"]
        why = "old propensities are kept for ever" if wanted == "compact" else "events get lost"
        problems.append(
            Problem(f"cleanup.policy is {policy!r}: {why}", f"set cleanup.policy={wanted}")
        )
    return problems
