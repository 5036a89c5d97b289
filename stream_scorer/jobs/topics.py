"""`stream-scorer topics create|check`: the three topics, created or compared with their plan."""

from __future__ import annotations

from typing import Any

from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.settings.topics import topic_plans, topic_problems
from stream_scorer.settings.tree import Settings


def create(settings: Settings) -> dict[str, Any]:
    """Make the topics that do not exist; {"topics": [{"name", "created", "partitions"}]}."""
    admin = KafkaAdmin(settings.kafka.client_properties())
    factor = settings.kafka.replication_factor
    made = [
        {
            "name": plan.name,
            "created": admin.create(plan.name, plan.partitions, factor, plan.config),
            "partitions": plan.partitions,
        }
        for plan in topic_plans(settings.kafka)
    ]
    return {"topics": made}


def check(settings: Settings) -> dict[str, Any]:
    """Compare; {"ok", "topics": [{"name", "ok", "partitions", "problems": [...]}]}."""
    plans = topic_plans(settings.kafka)
    found = KafkaAdmin(settings.kafka.client_properties()).topics([p.name for p in plans])
    report = []
    for plan in plans:
        topic = found.get(plan.name)
        partitions = None if topic is None else topic.partitions
        problems = topic_problems(plan, partitions, {} if topic is None else topic.config)
        report.append(
            {
                "name": plan.name,
                "ok": not problems,
                "partitions": partitions,
                "problems": [p._asdict() for p in problems],
            }
        )
    return {"ok": all(t["ok"] for t in report), "topics": report}


def in_words(report: dict[str, Any]) -> list[str]:
    """A report of either, for people."""
    lines = []
    for topic in report["topics"]:
        if "created" in topic:
            state = f"made, {topic['partitions']} partitions" if topic["created"] else "exists"
            lines.append(f"{topic['name']}: {state}")
        elif topic["ok"]:
            lines.append(f"{topic['name']}: good, {topic['partitions']} partitions")
        lines += [
            f"{topic['name']}: {p['found']}; {p['remedy']}" for p in topic.get("problems", [])
        ]
    return lines
