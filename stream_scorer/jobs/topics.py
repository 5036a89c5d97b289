"""`stream-scorer topics create|check`: the three topics, created or compared with their plan."""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.result import Result
from stream_scorer.settings.topics import Problem, topic_plans, topic_problems
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class CreatedTopic(Result):
    """created: False where the topic existed. partitions: how many a new one gets."""

    name: str
    created: bool
    partitions: int


@dataclass(frozen=True)
class CreatedTopics(Result):
    """The input, output and dead-letter topic."""

    topics: tuple[CreatedTopic, ...]


@dataclass(frozen=True)
class CheckedTopic(Result):
    """partitions: how many it has, None where it does not exist."""

    name: str
    ok: bool
    partitions: int | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class CheckedTopics(Result):
    """The input, output and dead-letter topic; ok where none has a problem."""

    ok: bool
    topics: tuple[CheckedTopic, ...]


def create(settings: Settings) -> CreatedTopics:
    """Make the topics that do not exist. Raises BusUnavailable."""
    admin = KafkaAdmin(settings.kafka.client_properties())
    factor = settings.kafka.replication_factor
    return CreatedTopics(
        tuple(
            CreatedTopic(
                plan.name,
                admin.create(plan.name, plan.partitions, factor, plan.config),
                plan.partitions,
            )
            for plan in topic_plans(settings.kafka)
        )
    )


def check(settings: Settings) -> CheckedTopics:
    """Compare the topics with their plans. Raises BusUnavailable."""
    plans = topic_plans(settings.kafka)
    found = KafkaAdmin(settings.kafka.client_properties()).topics([p.name for p in plans])
    checked = []
    for plan in plans:
        topic = found.get(plan.name)
        partitions = None if topic is None else topic.partitions
        problems = topic_problems(plan, partitions, {} if topic is None else topic.config)
        checked.append(CheckedTopic(plan.name, not problems, partitions, tuple(problems)))
    return CheckedTopics(all(t.ok for t in checked), tuple(checked))


def created_in_words(found: CreatedTopics) -> list[str]:
    """What `create` did, for people."""
    return [
        f"{t.name}: {f'made, {t.partitions} partitions' if t.created else 'exists'}"
        for t in found.topics
    ]


def checked_in_words(found: CheckedTopics) -> list[str]:
    """What `check` found, for people."""
    lines = []
    for topic in found.topics:
        if topic.ok:
            lines.append(f"{topic.name}: good, {topic.partitions} partitions")
        lines += [f"{topic.name}: {p.found}; {p.remedy}" for p in topic.problems]
    return lines
