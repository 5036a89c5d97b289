"""What `customer forget` did, for whoever has to prove it; and what it can't reach, in words."""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.result import Result

SHOWN = 20


@dataclass(frozen=True)
class ErasedPosition(Result):
    """Up to which offset of a partition events had gone into a record."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class TombstoneSent(Result):
    """The last tombstone of a customer; sent: how many, since a member's score may have followed
    the first one."""

    topic: str
    partition: int
    offset: int
    sent: int


@dataclass(frozen=True)
class ForgottenCustomer(Result):
    """forgotten_at: nothing that occurred at or before it counts from now on. known: whether the
    store had a vector. record_bytes, values: of the record that was deleted, and how many sums,
    stamps and event ids it had. newest_event: of that record. positions: the events that it was
    made of. forgotten_before: the moment of an earlier request. tombstone: None where none is
    confirmed.
    """

    customer_id: str
    forgotten_at: str
    known: bool
    record_bytes: int
    values: int
    newest_event: str | None
    positions: tuple[ErasedPosition, ...]
    forgotten_before: str | None
    tombstone: TombstoneSent | None


@dataclass(frozen=True)
class StillHeld(Result):
    """Where data of the customers may still be, what it is, and until when."""

    where: str
    what: str
    until: str


@dataclass(frozen=True)
class NamedDeadLetters(Result):
    """Dead letters whose key, or whose bytes, hold the id of one of the customers. read: how many
    records of the topic were looked at; complete: whether these were all."""

    topic: str
    read: int
    complete: bool
    customers: dict[str, int]


@dataclass(frozen=True)
class ErasureReceipt(Result):
    """done: records are deleted and all tombstones are confirmed to be the last word. problem: what
    is open, "" for nothing. time: when the request was made. model_version: of the model that
    members serve, None where none is announced. drift_samples: how many scores and actions that
    were sampled for drift were deleted, None where that failed. dead_letters: None where nobody
    looked.
    """

    done: bool
    problem: str
    time: str
    namespaces: tuple[str, ...]
    redis: str
    output_topic: str
    model_version: str | None
    customers: tuple[ForgottenCustomer, ...]
    drift_samples: int | None
    dead_letters: NamedDeadLetters | None
    still_held: tuple[StillHeld, ...]
    stream_scorer: str
    seconds: float


@dataclass(frozen=True)
class PlannedErasure(Result):
    """What would be deleted: nothing is, until the request is made with --yes. customers, known:
    how many are named, and of how many the store has a vector; members: of the consumer group."""

    namespaces: tuple[str, ...]
    customers: int
    known: int
    members: int


def planned_in_words(found: PlannedErasure) -> list[str]:
    """What would be deleted, for people."""
    return [
        f"{found.customers:,} customers would be forgotten in {_names(found.namespaces)}; "
        f"{found.known:,} of them have a vector there",
        "nothing was deleted; give --yes to do it",
    ]


def receipt_in_words(done: ErasureReceipt) -> list[str]:
    """The receipt for people, with the first `SHOWN` customers."""
    known = sum(c.known for c in done.customers)
    lines = [
        f"{len(done.customers):,} customers forgotten in {_names(done.namespaces)} of {done.redis} "
        f"at {done.time}: {known:,} vectors deleted in {done.seconds:.1f} s"
    ]
    for customer in done.customers[:SHOWN]:
        lines += _customer(customer)
    if len(done.customers) > SHOWN:
        lines.append("... and more; --receipt FILE or --json names all")
    if done.drift_samples:
        lines.append(f"  {done.drift_samples:,} samples for drift deleted")
    lines.append("What still holds data of these customers:")
    lines += [f"  {held.where}: {held.what}; {held.until}" for held in done.still_held]
    if done.dead_letters is not None:
        lines += _dead_letters(done.dead_letters)
    if not done.done:
        lines.append(f"NOT DONE: {done.problem}")
    return lines


def _customer(customer: ForgottenCustomer) -> list[str]:
    what = "had no vector; later events up to that moment are left out all the same"
    if customer.known:
        made_of = ", ".join(
            f"{p.topic}[{p.partition}] up to {p.offset}" for p in customer.positions
        )
        what = (
            f"a record of {customer.record_bytes:,} bytes with {customer.values:,} values deleted, "
            f"newest event {customer.newest_event}, made of {made_of or 'event files'}"
        )
    again = f" (before: {customer.forgotten_before})" if customer.forgotten_before else ""
    lines = [f"  {customer.customer_id}: forgotten up to {customer.forgotten_at}{again}: {what}"]
    tombstone = customer.tombstone
    if tombstone is not None:
        times = f", sent {tombstone.sent} times" if tombstone.sent > 1 else ""
        lines.append(
            f"    tombstone at {tombstone.topic}[{tombstone.partition}] {tombstone.offset}{times}"
        )
    return lines


def _dead_letters(found: NamedDeadLetters) -> list[str]:
    total = sum(found.customers.values())
    part = "" if found.complete else ", which is only a part of the topic"
    return [
        f"  {total:,} dead letters of {len(found.customers):,} of these customers are among the "
        f"{found.read:,} newest records of {found.topic}{part}"
    ]


def _names(namespaces: tuple[str, ...]) -> str:
    return "namespace " + " and ".join(namespaces)
