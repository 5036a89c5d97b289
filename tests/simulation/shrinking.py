"""A failing schedule with as few faults and events as it takes to fail."""

from __future__ import annotations

from dataclasses import replace

from invariants import violations
from plan import Plan
from world import play


def failure_of(plan: Plan) -> list[str]:
    """What is wrong after this plan."""
    return violations(play(plan))


def shrunk(plan: Plan) -> Plan:
    """A smaller plan that fails as well: without the faults and events that it does not need."""
    chosen = list(range(len(plan.faults))) if plan.chosen is None else list(plan.chosen)
    plan = replace(plan, chosen=tuple(chosen))
    progress = True
    while progress:
        progress = False
        for i in list(plan.chosen or ()):
            fewer = replace(plan, chosen=tuple(c for c in plan.chosen or () if c != i))
            if failure_of(fewer):
                plan, progress = fewer, True
    for events in range(1, plan.events):
        fewer = replace(plan, events=events)
        if failure_of(fewer):
            return fewer
    return plan


def report(plan: Plan) -> str:
    """The shrunk plan in words, what happened in it, what is wrong, and how to play it again."""
    small = shrunk(plan)
    world = play(small)
    lines = [small.described(), *world.story, *(f"WRONG: {v}" for v in violations(world))]
    return "\n".join([*lines, f"play it again: make simulate SEED={small}"])
