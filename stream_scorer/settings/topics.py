"""What the three topics have to be like, and what is wrong with a topic that exists.

`topics create`, `topics check` and `doctor` all judge by this; io/kafka/admin.py asks Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_scorer.result import Result
from stream_scorer.settings.connections import KafkaSettings


@dataclass(frozen=True)
class Problem(Result):
    """What is wrong, and the remedy."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be.

    partitions: how many it is created with. setting: the name of the setting under `kafka` that
    says so, None where any number will do. config: topic properties that it must have.
    """

    name: str
    partitions: int
    setting: str | None
    config: Mapping[str, str]


def topic_plans(kafka: KafkaSettings) -> tuple[TopicPlan, ...]:
    """The plans of the input, output and dead-letter topic, in that order."""
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
    """What is wrong with a topic, compared with its plan; an empty list where nothing is.

    partitions: how many it has, None where it does not exist. config: its properties in Kafka.
    """
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
        why = "old propensities are kept forever" if wanted == "compact" else "events get lost"
        problems.append(
            Problem(f"cleanup.policy is {policy!r}: {why}", f"set cleanup.policy={wanted}")
        )
    return problems
