"""What must be true after a schedule, whatever happened in it."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np
from oracle import vector_of
from shop import DEAD_LETTERS, INPUT, OUTPUT, expected_scores, one_pass, prepared, space
from simulated_log import COMMITTED, Record
from world import World

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.features import csr
from stream_scorer.core.features.erasure import erased_ms
from stream_scorer.core.features.state import NEVER
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.core.trend_record import TrendPlan, TrendRecord

Position = tuple[int, int]  # partition, offset
# A late command writes an old mark over a new one, which looks as if the new one were lost.
LOSES_WRITES = {
    "redis rewind",
    "redis failover",
    "redis flush",
    "redis evicts",
    "redis command late",
}
PUBLISH_LATE = {"suspend", "taken and given back", "cut off"}
SAYS_WRITES_WERE_LOST = re.compile("the store lost|Redis (had )?lost")


def violations(world: World) -> list[str]:
    """One line for each thing that is wrong; nothing where all is well."""
    found = list(world.crashes)
    if world.may_halt and world.said:
        return found  # an operator knows that the store needs a look
    records = _input(world)
    events, junk = _events(records)
    erased = _erased(world)
    # Where a request is not done, since no member goes on, her record may be as before or erased.
    open_requests = {r.customer for r in world.requests if not r.done}
    events = {i: mine for i, mine in events.items() if i not in open_requests}
    # A group that is new began where the log begins, and said that vectors lack what was before.
    # Redis counts what it evicted from its start on: a restart soon after it hides it.
    kinds = {f.kind for f in world.plan.active_faults}
    hidden = "redis evicts" in kinds and kinds & {"redis rewind", "redis failover"}
    began_late = any("events before it were deleted" in text for text in world.said)
    if not hidden and not began_late:
        found += _records(world, records, events, erased)
        found += _requests(world, erased, kinds)
        found += _notes(world, records, events, erased)
        found += _trends(world, records, kinds)
    found += _outputs(world, records, events, erased, open_requests)
    if not hidden and not world.plan.split and not world.said:
        found += _scores(world, records, events, erased)
    found += _dead_letters(world, junk)
    found += _false_alarms(world, kinds)
    return found


def _input(world: World) -> dict[Position, Record]:
    """All records that were ever in the input topic and not aborted, in the order of the log."""
    return {
        (tp[1], offset): record
        for tp, log in world.broker.logs.items()
        if tp[0] == INPUT
        for offset, record in enumerate(log.records)
        if record.state == COMMITTED
    }


def _batch(records: dict[Position, Record]) -> RecordBatch:
    partitions = sorted({p for p, _ in records})
    index = {p: i for i, p in enumerate(partitions)}
    return RecordBatch(
        [r.value for r in records.values()], [r.key for r in records.values()],
        [(INPUT, p) for p in partitions],
        np.array([index[p] for p, _ in records], np.int32),
        np.array([o for _, o in records], np.int64),
        np.array([r.timestamp_ms for r in records.values()], np.int64),
    )  # fmt: skip


def _events(records: dict[Position, Record]) -> tuple[dict[str, list[Position]], set[Position]]:
    """Where each customer's events are, in order; and where what is no event is."""
    if not records:
        return {}, set()
    done = prepared(_batch(records))
    junk = {(d.partition, d.offset) for d in done.dead_letters}
    events: dict[str, list[Position]] = {}
    for position, record in records.items():
        if position not in junk:
            events.setdefault((record.key or b"").decode(), []).append(position)
    return events, junk


def _stored(world: World) -> dict[str, bytes]:
    """The customers' records."""
    prefix = b"s:c:"
    return {
        key[len(prefix) :].decode(): value
        for key, value in world.redis.data.items()
        if key.startswith(prefix)
    }


def _erased(world: World) -> dict[str, int]:
    """Up to which moment each customer is forgotten, by the records."""
    stored = _stored(world)
    found = erased_ms(unpack(list(stored), list(stored.values()), space().fingerprint)).tolist()
    return {i: ms for i, ms in zip(stored, found, strict=True) if ms != NEVER}


def _counted(
    world: World, records: dict[Position, Record], positions: list[Position], boundary_ms: int
) -> list[Position]:
    """Those of the events that occurred after a boundary."""
    of = (world.events[records[p].value or b""].row["occurred_at"] for p in positions)
    return [p for p, at in zip(positions, of, strict=True) if at > boundary_ms]


def _requests(world: World, erased: dict[str, int], kinds: set[str]) -> Iterator[str]:
    """Who was forgotten is so in the record, and no further than was said."""
    for request in world.requests:
        if not request.done:
            continue
        said, stored = request.boundaries_ms[-1], erased.get(request.customer, NEVER)
        others = [
            r.boundaries_ms[-1] for r in world.requests if r.customer == request.customer and r.done
        ]
        if stored < said or (stored > max(others) and not kinds & LOSES_WRITES):
            yield f"{request.customer} was forgotten up to {said}, the record says {stored}"


def _notes(
    world: World, records: dict[Position, Record], events: dict[str, list[Position]],
    erased: dict[str, int],
) -> Iterator[str]:  # fmt: skip
    """What a refresh noted of a forgotten customer is of a score of events after the boundary."""
    for customer, boundary_ms in erased.items():
        note = world.redis.data.get(f"s:r:{customer}".encode())
        if note is None or customer not in events or world.plan.split:
            continue
        _, offset, _, partition = struct.unpack("<qqQi", note)
        counted = _counted(world, records, events[customer], boundary_ms)
        if not counted or (partition, offset) < counted[0]:
            yield f"a refresh's note of {customer} is of {(partition, offset)}, of before"


def _records(
    world: World, records: dict[Position, Record], events: dict[str, list[Position]],
    erased: dict[str, int],
) -> Iterator[str]:  # fmt: skip
    """Every record equals one pass over the log, up to the offsets that it claims."""
    fingerprint, stored = space().fingerprint, _stored(world)
    claimed: dict[Position, Record] = {}
    for customer, positions in events.items():
        value = stored.get(customer)
        if value is None:
            if not world.said:
                yield f"{customer} has no record, and {len(positions)} events"
            continue
        arrays = unpack([customer], [value], fingerprint).arrays
        pairs = zip(arrays.source_partition.tolist(), arrays.source_offset.tolist(), strict=True)
        claims = dict(pairs)
        mine = [p for p in positions if p[1] <= claims.get(p[0], -1)]
        if len(mine) < len(positions) and not world.said:
            yield f"{customer}'s record ends at {claims}, its events at {positions[-1]}"
        claimed |= {p: records[p] for p in mine}
        mine = _counted(world, records, mine, erased.get(customer, NEVER))
        if mine:
            states = unpack([customer], [value], fingerprint)
            # Without the last column, which holds the day.
            vector = csr.build(states, space(), states.arrays.newest_ms).toarray()[0, :-1]
            expected = vector_of(world.events[records[p].value or b""] for p in mine)
            if not np.array_equal(vector, expected):
                yield f"{customer}'s vector is {vector}, counted one by one {expected}"
    if world.plan.split:  # which of its partitions a record names first is not defined
        return
    ordered = {p: record for p, record in records.items() if p in claimed}
    if ordered:
        states = one_pass(_batch(ordered), erased)
        for customer, expected in zip(states.customer_ids, pack(states, fingerprint), strict=True):
            # What Redis writes for an erasure is in words, and packed by the next save.
            found = pack(unpack([customer], [stored.get(customer)], fingerprint), fingerprint)
            if found != [expected]:
                yield f"{customer}'s record differs from one pass over the log"


def _trends(world: World, records: dict[Position, Record], kinds: set[str]) -> Iterator[str]:
    """Every partition's record of the trend is what its events below the record's offset add, each
    counted once, and none missed."""
    plan = TrendPlan.of(space())
    assert plan is not None
    partitions = {p for p, _ in records}
    for partition in sorted(partitions):
        value = world.redis.data.get(f"s:trend:{INPUT}:{partition}".encode())
        if value is None:
            if not world.said and not kinds & LOSES_WRITES:
                yield f"partition {partition} has no record of the trend"
            continue
        stored = TrendRecord.decode(value, plan, "the simulation")
        mine = {p: r for p, r in records.items() if p[0] == partition}
        below = {p: r for p, r in mine.items() if p[1] < stored.next_offset}
        # After a fault a member may still wait for an answer; who takes over reads the rest again.
        if len(below) < len(mine) and not kinds:
            yield f"partition {partition}'s trend ends at {stored.next_offset} of {len(mine)}"
        counted = TrendRecord.empty(plan, 0)
        done = prepared(_batch(below)).trend if below else None
        if done is not None:
            offset, occurred_ms, category = done.of_partition(0)
            counted.add(offset, occurred_ms, category, stored.next_offset)
        counted.next_offset = stored.next_offset
        if counted.encode() != stored.encode():
            yield f"partition {partition}'s trend is {stored}, counted at once {counted}"


def _scores(
    world: World, records: dict[Position, Record], events: dict[str, list[Position]],
    erased: dict[str, int],
) -> Iterator[str]:  # fmt: skip
    """What was published is the score of the events up to its position, as of its moment; and under
    exactly_once a customer's later record is the newer one. Of a customer who was forgotten it is
    made of events after the boundary alone, where it comes after her last tombstone."""
    newest: dict[str, tuple[int, int]] = {}
    issued: dict[str, list[int]] = {}
    for request in world.requests:
        issued.setdefault(request.customer, []).extend(request.boundaries_ms)
    for customer, position, as_of, probabilities, last_word in _published(world):
        mine = {p: records[p] for p in events.get(customer, []) if p[1] <= position[1]}
        if not mine:
            continue
        boundaries = {erased.get(customer, NEVER), *issued.get(customer, [])[-1:]}
        if not last_word or _may_publish_late(world):
            boundaries |= {NEVER, *issued.get(customer, [])}
        wrong = [_wrong_score(world, mine, b, as_of, probabilities) for b in sorted(boundaries)]
        if all(wrong):
            yield f"{customer} at {position} as of {as_of} {wrong[-1]}"
            continue
        rank = position[1], as_of
        if world.plan.delivery == "exactly_once" and rank < newest.get(customer, rank):
            yield f"{customer}'s output {rank} came after {newest[customer]} under exactly_once"
        newest[customer] = rank


def _wrong_score(
    world: World, mine: dict[Position, Record], boundary_ms: int, as_of: int, given: np.ndarray
) -> str:
    """Why it is not the score of these events after a boundary, "" where it is."""
    counted = _counted(world, mine, list(mine), boundary_ms)
    if not counted:
        return "was published though nothing of her counts"
    states = one_pass(_batch({p: mine[p] for p in counted}))
    if as_of < states.arrays.newest_ms[0]:
        return "lacks events before that position"
    expected = expected_scores(csr.build(states, space(), np.array([as_of])), as_of)[0]
    if np.allclose(expected, given, atol=1e-5):
        return ""
    return f"got {given}, by its events {expected}"


def _may_publish_late(world: World) -> bool:
    """Whether a member may wake and publish what it had scored long before: nothing fences it."""
    kinds = {f.kind for f in world.plan.active_faults}
    return world.plan.delivery == "at_least_once" and bool(kinds & PUBLISH_LATE)


def _published(world: World) -> Iterator[tuple[str, Position, int, np.ndarray, bool]]:
    """The output records of each partition in its order: customer, position, moment, scores, and
    whether no tombstone of the customer follows."""
    for tp, log in world.broker.logs.items():
        if tp[0] == OUTPUT:
            records = [r for r in log.records if r.state == COMMITTED]
            last = {r.key: at for at, r in enumerate(records) if r.value is None}
            given = [(at, r.key, r.value) for at, r in enumerate(records) if r.value is not None]
            found = decode_propensities([value for _, _, value in given])
            if found.probabilities is None:
                continue
            for i, customer in enumerate(found.customer_ids):
                position = int(found.partition[i]), int(found.offset[i])
                last_word = given[i][0] > last.get(given[i][1], -1)
                yield (
                    customer, position, int(found.as_of_ms[i]), found.probabilities[i], last_word
                )  # fmt: skip


def _outputs(
    world: World, records: dict[Position, Record], events: dict[str, list[Position]],
    erased: dict[str, int], open_requests: set[str],
) -> Iterator[str]:  # fmt: skip
    values = [
        record.value or b""
        for tp, log in world.broker.logs.items()
        if tp[0] == OUTPUT
        for record in log.records
        if record.state == COMMITTED and record.value is not None
    ]
    published = decode_propensities(values)
    positions = list(zip(published.partition.tolist(), published.offset.tolist(), strict=True))
    counts = Counter(zip(published.customer_ids, positions, strict=True))
    # A refresh publishes a customer again, from the same position and as of a later moment.
    moments = Counter(
        zip(published.customer_ids, positions, published.as_of_ms.tolist(), strict=True)
    )
    if world.plan.split:
        # An output names one of the positions that its record stands at, and two may name the same.
        for customer, positions in events.items():
            mine = _counted(world, records, positions, erased.get(customer, NEVER))
            newest = dict(mine).items()
            if not newest:
                continue
            named = any(counts[customer, p] for p in newest)
            if customer in erased:  # a record may stand behind them, at an event that is left out
                ahead = ((c, p) for c, p in counts if c == customer)
                named = any(p[1] >= dict(mine).get(p[0], p[1] + 1) for _, p in ahead)
            if not named and not world.said:
                yield f"{customer}'s newest events, at {list(newest)}, led to no output"
        return
    for customer, positions in events.items():
        mine = _counted(world, records, positions, erased.get(customer, NEVER))
        if not mine:
            continue
        reached = [p for c, p in counts if c == customer and p >= mine[-1]]
        if not reached and not world.said:
            yield f"{customer}'s newest event, at {mine[-1]}, led to no output"
    for customer, position in counts:
        if position not in events.get(customer, []) and customer not in open_requests:
            yield f"an output of {customer} was made from {position}, which is none of its events"
    for (customer, position, as_of), count in moments.items():
        if count > 1 and world.plan.delivery == "exactly_once":
            what = f"output from {position} as of {as_of}"
            yield f"{customer}'s {what} came {count} times under exactly_once"


def _dead_letters(world: World, junk: set[Position]) -> Iterator[str]:
    log = world.broker.logs[DEAD_LETTERS, 0]
    values = [r.value or b"" for r in log.records if r.state == COMMITTED]
    counts = Counter((d.partition, d.offset) for d in decode_dead_letters(values))
    for position in sorted(junk):
        if not counts[position] and not world.said:
            yield f"the bad record at {position} led to no dead letter"
    for position, count in counts.items():
        if position not in junk:
            yield f"a dead letter of {position}, which is a good record"
        if count > 1 and world.plan.delivery == "exactly_once":
            yield f"the dead letter of {position} came {count} times under exactly_once"


def _false_alarms(world: World, kinds: set[str]) -> Iterator[str]:
    """Redis may be said to have lost writes only where it has."""
    if kinds.isdisjoint(LOSES_WRITES):
        for text in world.warnings.texts:
            if SAYS_WRITES_WERE_LOST.search(text):
                yield f"Redis lost nothing, and a member said: {text}"
