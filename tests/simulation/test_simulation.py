"""Five hundred schedules of faults, and that the simulator can be trusted."""

from __future__ import annotations

import pytest
from plan import parse, plan_of
from shrinking import failure_of, report
from world import play

SCHEDULES, IN_ONE_TEST = 500, 50


@pytest.mark.parametrize("first", range(0, SCHEDULES, IN_ONE_TEST))
def test_every_schedule_ends_well_or_is_said_to_be_beyond_repair(first: int) -> None:
    for seed in range(first, first + IN_ONE_TEST):
        plan = plan_of(seed)
        if failure_of(plan):
            pytest.fail(f"seed {seed} fails\n{report(plan)}", pytrace=False)


def test_the_same_seed_gives_the_same_run() -> None:
    once, again = play(plan_of(7)), play(plan_of(7))
    assert once.scheduler.calls == again.scheduler.calls
    assert once.scheduler.now == again.scheduler.now
    assert once.story == again.story


@pytest.mark.parametrize("text", ["7", "7:events=3", "7:faults=", "7:events=5:faults=0"])
def test_a_plan_is_read_as_it_is_printed(text: str) -> None:
    assert str(parse(text)) == text
