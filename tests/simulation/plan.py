"""What a schedule is made of: how many members, events and faults, all drawn from one seed.

A plan prints as `SEED` or, where parts of it were left out, as `SEED:events=12:faults=0,3`; `parse`
reads both, so that what shrinking found can be played again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# Kind of fault -> how often it is drawn. The number of a fault chooses its member, amount or way.
FAULTS = {
    "kill": 6, "suspend": 4, "stop": 2, "new member": 2, "taken and given back": 4, "cut off": 3,
    "redis rewind": 8, "redis failover": 6, "redis flush": 2, "redis evicts": 1, "redis away": 2,
    "redis answer lost": 3, "redis command late": 3,
    "kafka away": 2, "commit lost": 3, "delivery lost": 5, "offsets lost": 3,
    "end of transaction lost": 4, "retention": 1,
}  # fmt: skip
MOST_FAULTS = 5
FORGETS = 0.3  # in how many schedules a customer is forgotten on request, beside the faults drawn
MOST_MICRO_BATCH = 8
LAST_CALL = 500  # faults come up to this call; events, too


@dataclass(frozen=True, order=True)
class Fault:
    """After so many calls of clients; `number` is a random one, for whatever the kind draws."""

    at_call: int
    kind: str
    number: int


@dataclass(frozen=True)
class Plan:
    """One schedule."""

    seed: int
    members: int
    partitions: int
    customers: int
    events: int
    micro_batch: int  # records
    # Whether the events of one customer stand in several partitions, as under another partitioner.
    split: bool
    backlog: int  # how many events are in the log before anybody reads
    delivery: str
    refresh: bool  # a refresh would stand in for the score of an event that got lost
    hot_bytes: int  # of records that each member keeps in memory: none, a few customers', or all
    faults: tuple[Fault, ...]
    chosen: tuple[int, ...] | None = None  # numbers of the faults that stay, None for all
    events_all: int = 0

    @property
    def active_faults(self) -> tuple[Fault, ...]:
        if self.chosen is None:
            return self.faults
        return tuple(self.faults[i] for i in self.chosen)

    def __str__(self) -> str:
        parts = [str(self.seed)]
        if self.events != self.events_all:
            parts.append(f"events={self.events}")
        if self.chosen is not None:
            parts.append("faults=" + ",".join(map(str, self.chosen)))
        return ":".join(parts)

    def described(self) -> str:
        """The plan in words, a line for each fault."""
        lines = [
            f"{self.members} members, {self.partitions} partitions, {self.customers} customers, "
            f"{self.events} events, {self.delivery}",
            f"events before anybody reads: {min(self.backlog, self.events)}"
            + (", a customer's in several partitions" if self.split else ""),
        ]
        lines += [f"  call {f.at_call}: {f.kind} ({f.number % 1000})" for f in self.active_faults]
        return "\n".join(lines)


def plan_of(seed: int) -> Plan:
    """The schedule of a seed."""
    draw = random.Random(seed)
    kinds, weights = list(FAULTS), list(FAULTS.values())
    faults = [
        Fault(draw.randrange(LAST_CALL), draw.choices(kinds, weights)[0], draw.randrange(1 << 30))
        for _ in range(draw.randint(1, MOST_FAULTS))
    ]
    # Drawn apart, so that schedules without it are what they were before there was this fault.
    apart = random.Random(f"{seed} forget")
    if apart.random() < FORGETS:
        faults.append(Fault(apart.randrange(LAST_CALL), "forget", apart.randrange(1 << 30)))
    events, split = draw.randint(6, 30), draw.random() < 0.2
    # Where customers are split, members take turns at one customer, in small steps. Small batches
    # also overlap more often.
    small = split or draw.random() < 0.4
    return Plan(
        seed,
        members=draw.choice([2, 2, 3] if split else [1, 2, 2, 3]),
        partitions=draw.choice([2, 3, 6, 7] if split else [1, 2, 2, 3]),
        customers=1 if split else draw.randint(2, 6),
        events=events,
        micro_batch=draw.randint(1, 3) if small else MOST_MICRO_BATCH,
        split=split,
        backlog=draw.choice([0, 0, events // 2, events]),
        delivery=draw.choice(["at_least_once", "exactly_once", "exactly_once"]),
        refresh=bool(seed // 3 % 2),
        hot_bytes=(10_000_000, 1_000, 0)[seed % 3],
        faults=tuple(sorted(faults)),
        events_all=events,
    )


def parse(text: str) -> Plan:
    """The plan that prints as `text`."""
    seed, *parts = text.split(":")
    plan = plan_of(int(seed))
    for part in parts:
        name, _, value = part.partition("=")
        if name == "events":
            plan = replace(plan, events=int(value))
        elif name == "faults":
            chosen = tuple(int(i) for i in value.split(",") if i)
            plan = replace(plan, chosen=chosen)
        else:
            raise ValueError(f"{part}: not a part of a plan; write SEED:events=N:faults=0,1")
    return plan
