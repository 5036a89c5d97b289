"""`make simulate`: play one plan again, or many seeds; what fails is shrunk and printed.

With `until-failure` after the seeds the first one that fails is the last, and is not shrunk.
"""

from __future__ import annotations

import sys
import time

from invariants import violations
from plan import parse, plan_of
from shrinking import failure_of, report
from world import play

PROGRESS_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        plan = parse(arguments[0])
        world = play(plan)
        wrong = violations(world)
        print(plan.described(), *world.story, sep="\n")
        print(*(f"WRONG: {v}" for v in wrong), sep="\n")
        return 1 if wrong else 0
    first, count = int(arguments[0]), int(arguments[1])
    stops = arguments[2:] == ["until-failure"]
    shown, failed = time.monotonic(), 0
    for seed in range(first, first + count):
        wrong = failure_of(plan_of(seed))
        if wrong and stops:
            print(f"seed {seed} fails", *wrong, sep="\n")
            return 1
        if wrong:
            failed += 1
            print(f"seed {seed} fails\n{report(plan_of(seed))}", flush=True)
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{seed - first + 1:,} of {count:,} schedules, {failed} failed", flush=True)
    print(f"{count:,} schedules, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
