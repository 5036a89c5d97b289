"""What the three topics have to be like, and what is wrong with a topic that exists.

`topics create`, `topics check` and `doctor` all judge by this; io/kafka/admin.py asks Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stream_scorer.result import Result
from stream_scorer.settings.connections import KafkaSettings

NO_LIMIT = "-1"  # Kafka's own word for no limit, of retention.ms and of retention.bytes
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Problem(Result):
    """What is wrong, and the remedy."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be.

    partitions: how many it is created with. setting: the name of the setting under `kafka` that
    says so, None where any number will do. config: topic properties that it must have; a longer
    retention will do, too.
    """

    name: str
    partitions: int
    setting: str | None
    config: Mapping[str, str]


def topic_plans(kafka: KafkaSettings) -> tuple[TopicPlan, ...]:
    """The plans of the input, output and dead-letter topic, in that order."""
    kept_ms = kafka.input_retention_ms
    # Compaction would drop events of a customer; the output keeps each customer's newest record.
    # A dead letter holds an event, so it is kept as long as events are.
    events = {
        "cleanup.policy": "delete",
        "retention.ms": NO_LIMIT if kept_ms is None else str(kept_ms),
        "retention.bytes": NO_LIMIT,
    }
    compact = {"cleanup.policy": "compact"}
    return (
        TopicPlan(kafka.input_topic, kafka.input_partitions, "input_partitions", events),
        TopicPlan(kafka.output_topic, kafka.output_partitions, "output_partitions", compact),
        TopicPlan(kafka.dead_letter_topic, 1, None, events),
    )


def topic_problems(
    plan: TopicPlan, partitions: int | None, config: Mapping[str, str] | None
) -> list[Problem]:
    """What is wrong with a topic, compared with its plan; an empty list where nothing is.

    partitions: how many it has, None where it does not exist. config: its properties in Kafka,
    None where this user may not read them.
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
    if config is None:
        may_not = "its settings could not be read, so retention and cleanup policy are not checked"
        remedy = f"allow this user DescribeConfigs on topic {plan.name}"
        return [*problems, Problem(may_not, remedy)]
    policies, wanted = config.get("cleanup.policy", "").split(","), plan.config["cleanup.policy"]
    if wanted == "compact" and wanted not in policies:
        problems.append(
            Problem(
                f"cleanup.policy is {','.join(policies)!r}: old propensities are kept forever",
                "set cleanup.policy=compact",
            )
        )
    if wanted == "delete" and policies != ["delete"]:  # "compact,delete" compacts as well
        problems.append(
            Problem(
                f"cleanup.policy is {','.join(policies)!r}: events get lost, those that compaction "
                "has removed can't be replayed",
                "set cleanup.policy=delete",
            )
        )
    return problems + _retention_problems(plan, config)


def retention_in_words(retention_ms: str) -> str:
    """A topic's retention.ms for people."""
    if int(retention_ms) < 0:
        return "for ever"
    days = int(retention_ms) / DAY_MS
    return f"{days:g} days" if days >= 1 else f"{int(retention_ms) / 1000:g} s"


def _retention_problems(plan: TopicPlan, config: Mapping[str, str]) -> list[Problem]:
    wanted = plan.config.get("retention.ms")
    if wanted is None or "delete" not in config.get("cleanup.policy", ""):
        return []
    problems = []
    found = config.get("retention.ms", NO_LIMIT)
    most_bytes = config.get("retention.bytes", NO_LIMIT)
    if int(found) >= 0 and (int(wanted) < 0 or int(found) < int(wanted)):
        problems.append(
            Problem(
                f"retention.ms is {found}: events are kept {retention_in_words(found)}, "
                f"kafka.input_retention says {retention_in_words(wanted)}",
                f"set retention.ms={wanted} on the topic; or set kafka.input_retention to what it "
                "keeps, and keep the event files of what is older: without them neither `replay` "
                "nor `verify` can see it",
            )
        )
    if int(most_bytes) >= 0:
        problems.append(
            Problem(
                f"retention.bytes is {most_bytes}: a busy day deletes events of any age",
                f"set retention.bytes={NO_LIMIT} on the topic",
            )
        )
    return problems
