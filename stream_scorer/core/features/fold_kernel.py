"""The compiled loop that folds events into records; fold.py has the theory.

Customers are taken one after another. A customer's sums are laid out in tables (fold_sums.py);
afterwards they are gathered behind those of the customer before. What depends on an event's time
alone (its whole half-lives and 2^remainder) is computed once for each distinct half-life, and not
again for the next event of the same moment. Where a key or stamp was last seen is remembered by the
low bits of its column; that position is tried before a search.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.core.events.batch import Bool, Int64, UInt8
from stream_scorer.core.features.fold_plan import (
    DUPLICATE_ID,
    ERASED,
    FIRST_STAMP,
    FORGOTTEN,
    MOST_HALVINGS,
    REDELIVERED,
    STAMP_OF_BLOCK,
    TWO_STAMPS,
    Plan,
    Stream,
    Work,
)
from stream_scorer.core.features.fold_sums import (
    WIDE,
    add_key,
    begin_low,
    fade,
    fade_low,
    gather,
    gather_low,
    lay_out,
    pointers_to,
    search,
    spread,
    spread_low,
)
from stream_scorer.core.features.state import (
    ERASED_PARTITION,
    ERASED_TOPIC,
    NEVER,
    StateArrays,
)
from stream_scorer.jit import bytes_of, kernel


@kernel
def fold_range(
    old: StateArrays,
    plan: Plan,
    stream: Stream,
    bounds: Int64,
    first: int,
    last: int,
    outcome: UInt8,
    changed: Bool,
    work: Work,
) -> Any:
    """The new records of customers first..last; `outcome` and `changed` are filled in for them."""
    customers, n = last - first, bounds[last] - bounds[first]
    # numba counts references each time that a field of a tuple is taken, so not within the loops.
    half_life, blocks = plan.half_life_ms, plan.blocks
    stamp_start, stamp_stop, stamped = plan.stamp_start, plan.stamp_stop, plan.stamped
    source, topics, partitions = stream.source, stream.topic, stream.partition
    offset, occurred_ms, ids = stream.offset, stream.occurred_ms, stream.ids
    numbers = stream.numbers
    remember, time_to_live_ms = stream.memory.event_ids, stream.memory.time_to_live_ms
    decay, group = blocks.decay, blocks.group
    slots, halves, stamps = stream.key.shape[1], len(half_life), len(stamped)
    groups = len(plan.group_column)
    newest_ms = old.newest_ms[first:last].copy()
    source_at = np.zeros(customers + 1, np.int64)
    sum_at = np.zeros(customers + 1, np.int64)
    stamp_at = np.zeros(customers + 1, np.int64)
    recent_at = np.zeros(customers + 1, np.int64)
    low_at = np.zeros(customers + 1, np.int64)
    # Room for the worst case, in which every event adds an entry: numba's arrays can't grow. Pages
    # that are never touched cost hardly anything, and the ends are cut off when all is done.
    room = old.source_at[last] - old.source_at[first] + n
    source_topic = np.empty(room, np.uint32)
    source_partition = np.empty(room, np.int32)
    source_offset = np.empty(room, np.int64)
    room = old.sum_at[last] - old.sum_at[first] + len(decay) * n + 1  # `gather` looks one ahead
    sum_column = np.empty(room, np.uint32)
    sum_value = np.empty(room, np.float32)
    low_column = np.empty(room, np.uint32)
    low_value = np.empty(room, np.float32)
    room = old.stamp_at[last] - old.stamp_at[first] + 2 * stamps * n  # some keep two of a key
    stamp_column = np.empty(room, np.uint32)
    stamp_value = np.empty(room, np.float32)
    stamp_ms = np.empty(room, np.int64)
    room = old.recent_at[last] - old.recent_at[first] + (n if remember else 0)
    recent_id = np.empty(room, np.uint64)
    power, landmark, whole = work.decay.power, work.decay.landmark, work.decay.whole
    part, scale, moved = work.decay.part, work.decay.scale, work.decay.moved
    tables = work.sums
    hint, lane_at, keys = tables.hint, tables.lane_at, tables.keys
    mask = np.uint32(len(hint) - 1)
    # Bare pointers for the innermost loop; what they point to is the caller's.
    kinds_, constant_, number_ = (
        bytes_of(plan.kind), bytes_of(stream.constant), bytes_of(stream.number)
    )  # fmt: skip
    key_, slot_ = bytes_of(stream.key), bytes_of(stream.slot)
    first_block_, decay_ = bytes_of(plan.first_block), bytes_of(decay)
    group_first_, member_, group_column_ = (
        bytes_of(plan.group_first), bytes_of(plan.member), bytes_of(plan.group_column)
    )  # fmt: skip
    hint_ = bytes_of(hint)
    part_, scale_ = bytes_of(part), bytes_of(scale)
    for row in range(customers):
        c = first + row
        s0, u0, t0, r0 = source_at[row], sum_at[row], stamp_at[row], recent_at[row]
        l0 = low_at[row]
        s1, u1, t1, r1 = s0, u0, t0, r0
        erased_ms = NEVER
        for i in range(old.source_at[c], old.source_at[c + 1]):
            source_topic[s1] = old.source_topic[i]
            source_partition[s1] = old.source_partition[i]
            source_offset[s1] = old.source_offset[i]
            if source_topic[s1] == ERASED_TOPIC and source_partition[s1] == ERASED_PARTITION:
                erased_ms = source_offset[s1]
            s1 += 1
        for i in range(old.stamp_at[c], old.stamp_at[c + 1]):
            # The hint may be overwritten by another column of the same low bits; whoever uses it
            # compares the column first.
            hint[old.stamp_column[i] & mask] = t1 - t0
            stamp_column[t1] = old.stamp_column[i]
            stamp_value[t1] = old.stamp_value[i]
            stamp_ms[t1] = old.stamp_ms[i]
            t1 += 1
        for i in range(old.recent_at[c], old.recent_at[c + 1]):
            recent_id[r1] = old.recent_id[i]
            r1 += 1
        begin, end = old.sum_at[c], old.sum_at[c + 1]
        low_begin, low_end = old.low_at[c], old.low_at[c + 1]
        has_low = low_end > low_begin
        events = bounds[c + 1] - bounds[c]
        # A customer without events is copied as it is: laying it out and gathering it would drop
        # nothing, but costs more than the copy.
        if events == 0:
            for i in range(end - begin):
                sum_column[u1 + i] = old.sum_column[begin + i]
                sum_value[u1 + i] = old.sum_value[begin + i]
            for i in range(low_end - low_begin):
                low_column[l0 + i] = old.low_column[low_begin + i]
                low_value[l0 + i] = old.low_value[low_begin + i]
            low_at[row + 1] = l0 + low_end - low_begin
            source_at[row + 1], sum_at[row + 1] = s1, u1 + end - begin
            stamp_at[row + 1], recent_at[row + 1] = t1, r1
            continue
        tables = lay_out(old.sum_column, begin, end, events, blocks, tables)
        spread(old.sum_column, old.sum_value, blocks, tables)
        if has_low:
            spread_low(old.low_column, old.low_value, low_begin, low_end, blocks, tables)
        values = tables.values
        # `gather` names the tables after the last use of these pointers, so they stay good.
        sums = pointers_to(blocks, tables)
        newest = newest_ms[row]
        if newest != NEVER:
            for d in range(halves):
                landmark[d] = newest // half_life[d]
        at_ms = NEVER
        for e in range(bounds[c], bounds[c + 1]):
            # Skip what this record already holds, by offset.
            topic = topics[source[e]]
            partition = partitions[source[e]]
            s = s0
            while s < s1 and not (source_topic[s] == topic and source_partition[s] == partition):
                s += 1
            if s < s1:
                if offset[e] <= source_offset[s]:
                    outcome[e] = REDELIVERED
                    continue
            else:
                source_topic[s] = topic
                source_partition[s] = partition
                s1 += 1
            # The offset moves on even where the event turns out to be a duplicate by its id, so
            # that a redelivery of it is recognised by the offset alone.
            source_offset[s] = offset[e]
            changed[c] = True
            ms = occurred_ms[e]
            # Of a customer who was erased on request since: see erasure.py.
            if ms <= erased_ms:
                outcome[e] = ERASED
                continue
            if time_to_live_ms > 0 and newest != NEVER:
                # An event of a time that would have been forgotten by now.
                if ms < newest - time_to_live_ms:
                    outcome[e] = FORGOTTEN
                    continue
                # The customer was away for longer than the time to live: only the offsets stay.
                if ms - time_to_live_ms > newest:
                    for g in range(groups):
                        sums.keys[g] = 0
                    t1, r1, has_low, newest = t0, r0, False, NEVER
            # Skip what its producer sent twice, by event id.
            if remember:
                seen = False
                for i in range(r0, r1):
                    if recent_id[i] == ids[e]:
                        seen = True
                        break
                if seen:
                    outcome[e] = DUPLICATE_ID
                    continue
                if r1 - r0 >= remember:
                    # The oldest id makes room. Copying is cheap, because k is a handful.
                    kept = remember - 1
                    for i in range(kept):
                        recent_id[r0 + i] = recent_id[r1 - kept + i]
                    r1 = r0 + kept
                recent_id[r1] = ids[e]
                r1 += 1
            if ms != at_ms:
                at_ms = ms
                for d in range(halves):
                    h = half_life[d]
                    # In integers and float64: a float32 knows milliseconds since 1970 to about two
                    # minutes.
                    whole[d] = ms // h
                    part[d] = np.exp2((ms - whole[d] * h) / h)
                if ms > newest:
                    any_moved = False
                    for d in range(halves):
                        # The first event of a customer has nothing to fade.
                        moved[d] = whole[d] - landmark[d] if newest != NEVER else 0
                        any_moved |= moved[d] > 0
                        landmark[d] = whole[d]
                    newest = ms
                    for b in range(len(decay) if any_moved else 0):
                        halvings = moved[decay[b]]
                        if halvings <= 0:
                            continue
                        # Beyond this a float32 is 0 anyway, and the table of powers has an end.
                        factor = np.float32(0.0) if halvings > MOST_HALVINGS else power[halvings]
                        lane_end = lane_at[b] + keys[group[b]]
                        fade(values, lane_at[b], lane_end, factor)
                        if has_low:
                            fade_low(tables, lane_at[b], lane_end, factor)
                for d in range(halves):
                    # An event older than the newest is added at its own, lower weight.
                    behind = landmark[d] - whole[d]
                    scale[d] = np.float32(0.0) if behind > MOST_HALVINGS else power[behind]
            for g in range(groups):
                k = np.int32(-1)
                for m in range(group_first_[g], group_first_[g + 1]):
                    k = max(k, key_[e * slots + slot_[member_[m]]])
                if k < 0:
                    continue
                base, known = sums.key_at[g], sums.keys[g]
                spot = np.uint32(group_column_[g] + k) & mask
                p = hint_[spot]
                if p >= known or sums.arrived[base + p] != k:
                    rank = search(sums.ascending, base, base + known, k)
                    if rank < base + known and sums.ascending[rank] == k:
                        p = sums.position_of[rank]
                    else:
                        add_key(k, g, rank, base, known, sums)
                        p = np.int32(known)
                        sums.keys[g] = known + 1
                    hint_[spot] = p
                for m in range(group_first_[g], group_first_[g + 1]):
                    f = member_[m]
                    w = numbers[e, number_[f]] if number_[f] >= 0 else constant_[f]
                    if key_[e * slots + slot_[f]] < 0 or np.isnan(w):
                        continue
                    for b in range(first_block_[f], first_block_[f + 1]):
                        d = decay_[b]
                        # Rounded to float32 after each product, in this order: a compiler that
                        # fused or reordered them would give other bits on other machines.
                        addend = np.float32(np.float32(w * part_[d]) * scale_[d])
                        at = sums.lane_at[b] + p
                        value = np.float32(sums.values[at] + addend)
                        if has_low and not np.isnan(sums.low[at]):
                            # float64 holds both parts exactly, but for bits far below them.
                            exact = np.float64(sums.values[at]) + np.float64(sums.low[at])
                            exact += np.float64(addend)
                            sums.values[at] = np.float32(exact)
                            sums.low[at] = np.float32(exact - np.float64(sums.values[at]))
                        elif abs(value) >= WIDE * abs(addend):
                            has_low = begin_low(tables, at, addend, has_low)
                        else:
                            sums.values[at] = value
            for m in range(stamps):
                f = stamped[m]
                k = key_[e * slots + slot_[f]]
                kind, w = kinds_[f], constant_[f]
                if number_[f] >= 0:
                    w = numbers[e, number_[f]]
                if k < 0 or np.isnan(w):
                    continue
                column = np.uint32(stamp_start[f] + k)
                value = np.float32(w)
                if kind == STAMP_OF_BLOCK:
                    # `latest` has one stamp for the block, whatever its column.
                    at = search(stamp_column, t0, t1, stamp_start[f])
                    found = at < t1 and stamp_column[at] < stamp_stop[f]
                else:
                    at = t0 + hint_[column & mask]
                    if at >= t1 or stamp_column[at] != column:
                        at = search(stamp_column, t0, t1, column)
                    found = at < t1 and stamp_column[at] == column
                    # Of two stamps of the key the hint may name the second.
                    if kind == TWO_STAMPS and at > t0 and stamp_column[at - 1] == column:
                        at -= 1
                later = True
                if not found:
                    added = 2 if kind == TWO_STAMPS else 1
                    for i in range(t1 + added - 1, at + added - 1, -1):
                        stamp_column[i] = stamp_column[i - added]
                        stamp_value[i] = stamp_value[i - added]
                        stamp_ms[i] = stamp_ms[i - added]
                        hint_[stamp_column[i] & mask] = i - t0
                    hint_[column & mask] = at - t0
                    t1 += added
                    if added == 2:
                        stamp_column[at + 1] = column
                        stamp_value[at + 1] = value
                        stamp_ms[at + 1] = ms
                # These look at moments alone, so there is no tie to decide.
                elif kind in (FIRST_STAMP, TWO_STAMPS):
                    later = False
                    stamp_ms[at] = min(ms, stamp_ms[at])
                    if kind == TWO_STAMPS:
                        stamp_ms[at + 1] = max(ms, stamp_ms[at + 1])
                # A tie is decided by the greater column and value, not by who came first, so that
                # the order in which partitions are read changes nothing.
                elif ms == stamp_ms[at]:
                    later = column > stamp_column[at]
                    later |= column == stamp_column[at] and value > stamp_value[at]
                else:
                    later = ms > stamp_ms[at]
                if later:
                    stamp_column[at] = column
                    stamp_value[at] = value
                    stamp_ms[at] = ms
        newest_ms[row] = newest
        u1 = gather(blocks, tables, sum_column, sum_value, u0)
        low_at[row + 1] = l0
        if has_low:
            low_at[row + 1] = gather_low(blocks, tables, low_column, low_value, l0)
        source_at[row + 1], sum_at[row + 1] = s1, u1
        stamp_at[row + 1], recent_at[row + 1] = t1, r1
    s1, u1, t1, r1 = source_at[-1], sum_at[-1], stamp_at[-1], recent_at[-1]
    return StateArrays(
        newest_ms,
        source_at, source_topic[:s1], source_partition[:s1], source_offset[:s1],
        sum_at, sum_column[:u1], sum_value[:u1],
        stamp_at, stamp_column[:t1], stamp_value[:t1], stamp_ms[:t1],
        recent_at, recent_id[:r1],
        low_at, low_column[: low_at[-1]], low_value[: low_at[-1]],
    )  # fmt: skip
