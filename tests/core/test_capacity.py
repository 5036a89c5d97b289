"""What a shop needs, by formulas, and the sizes that they are made of beside the real encoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.capacity import (
    KAFKA_RECORD_BYTES,
    MOST_UTILISATION,
    RECORD_HEAD_BYTES,
    Demand,
    output_bytes,
    plan,
    record_bytes,
)
from stream_scorer.core.features.state import CustomerStates, StateArrays
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.core.installation import installation, of_one_region
from stream_scorer.core.measured_costs import MEANINGS, MeasuredCosts
from stream_scorer.core.monthly_cost import Prices, monthly_cost
from stream_scorer.core.redis_servers import PARTS, primaries_for
from stream_scorer.io.stores.cluster_keys import TAGS

# Round figures: an event takes 10 us of the loop's thread in all, a scored customer 20 us beside.
COSTS = MeasuredCosts(
    loop_seconds_per_event=4e-6, loop_seconds_per_customer=6e-6, encode_seconds_per_customer=3e-6,
    kafka_seconds_per_consumed=1e-6, kafka_seconds_per_produced=1e-6,
    kafka_seconds_per_produced_byte=0.0, score_seconds=6e-6,
    score_seconds_per_category=1e-8, score_seconds_per_non_zero=0.0,
    redis_seconds_per_customer=1e-5, redis_key_bytes=100.0, redis_bytes_per_record_byte=1.0,
    redis_note_bytes=150.0, record_bytes_per_non_zero=10.0, event_bytes=100.0,
)  # fmt: skip
SHOP = Demand(customers=1_000_000, events_per_second=50_000, categories=900, refresh_days=0)


def test_members_are_as_many_as_the_busiest_of_threads_and_cores_asks_for() -> None:
    # 50,000 events: 0.5 of the loop's thread; 10 + 1 + 3 + 1 + 15 us = 1.5 cores, 0.75 of two.
    found = plan(SHOP, COSTS)
    assert found.busy_cores == pytest.approx(1.5)
    assert (found.members, found.partitions, found.cores) == (2, 8, 4)
    assert found.utilisation == pytest.approx(0.375)
    assert found.lost_utilisation == pytest.approx(0.75)
    with_four_cores = plan(replace(SHOP, cores_per_member=4), COSTS)
    assert with_four_cores.utilisation == pytest.approx(0.25)  # the loop's thread binds


def test_a_lost_member_leaves_enough_of_the_others() -> None:
    found = plan(replace(SHOP, utilisation=0.9, events_per_second=115_000), COSTS)
    assert found.lost_utilisation is not None
    assert found.lost_utilisation <= MOST_UTILISATION


def test_members_never_exceed_the_partitions_and_a_wall_says_so() -> None:
    found = plan(replace(SHOP, events_per_second=500_000, partitions=3), COSTS)
    assert (found.members, found.partitions) == (3, 3)
    assert found.catch_up_seconds is None
    too_low = [w.name for w in found.walls if w.events_per_second < 500_000]
    assert set(too_low) == {w.name for w in found.walls if "Redis" not in w.name}
    alone = plan(replace(SHOP, partitions=1), COSTS)
    assert (alone.members, alone.lost_utilisation, alone.lost_catch_up_seconds) == (1, None, None)
    assert alone.hot_utilisation == alone.utilisation


def test_the_backlog_of_an_outage_is_worked_off_beside_what_comes() -> None:
    found = plan(SHOP, COSTS)
    # Two members take 0.9 * 2 / 15 us = 120,000 events a second, but Redis's thread 0.9 / 10 us.
    assert found.catch_up_seconds == pytest.approx(1800 * 50_000 / (90_000 - 50_000))
    # One takes 60,000.
    assert found.lost_catch_up_seconds == pytest.approx(1800 * 50_000 / (60_000 - 50_000))


def test_the_first_wall_is_the_nearest_one() -> None:
    rates = {wall.name: wall.events_per_second for wall in plan(SHOP, COSTS).walls}
    assert list(rates.values()) == sorted(rates.values())
    assert rates["members"] == pytest.approx(120_000)
    assert rates["Redis's one thread"] == pytest.approx(90_000)
    # Eight partitions on two members: the busiest of these has 3 + 2 of 8 parts of the events.
    assert rates["the member with the busiest partition"] == pytest.approx(60_000 / (5 / 8))
    own = rates["the busiest partition, with a member of its own"]
    assert own == pytest.approx(60_000 / (2 / 8))


def test_redis_is_one_server_until_its_thread_or_its_memory_does_not_suffice() -> None:
    assert plan(SHOP, COSTS).redis_servers == 1  # half of a thread
    # 0.5 * 1.5 * 51 / 50 of a thread, of which the busiest of three primaries has 22 of 64 parts.
    busier = plan(replace(SHOP, events_per_second=51_000), COSTS)
    assert busier.redis_servers == 3
    assert busier.redis_utilisation == pytest.approx(0.765 * 22 / 64)
    names = [wall.name for wall in busier.walls]
    assert {"the busiest Redis primary", "64 Redis primaries"} < set(names)
    # A customer takes 100 + 58 + 1.1 * 10 * 117 bytes and 30 % more, about 1.9 GB in all.
    larger = plan(replace(SHOP, redis_server_bytes=0.5e9), COSTS)
    assert larger.redis_servers == 4
    assert larger.redis_server_bytes == pytest.approx(larger.redis_maxmemory_bytes / 4)
    # A fifth primary would still have 13 of the 64 parts.
    assert primaries_for(0.1, 64.0, 0.5, 13.0) == 5
    assert primaries_for(0.1, 64.0, 0.5, 12.0) == 6


def test_more_primaries_than_parts_are_no_use_and_a_wall_says_so() -> None:
    found = plan(replace(SHOP, events_per_second=10_000_000), COSTS)
    assert found.redis_servers == PARTS == TAGS
    (wall,) = [w for w in found.walls if "Redis" in w.name]
    assert wall.events_per_second == pytest.approx(0.9 * 64 / 1.5e-5)
    assert wall.events_per_second < 10_000_000
    assert "several regions" in wall.remedy


def test_regions_have_an_even_part_each_and_are_added_up() -> None:
    demand = replace(SHOP, events_per_second=200_000, regions=4, redis_replicas=1)
    region = plan(of_one_region(demand), COSTS)
    assert region == plan(replace(SHOP, customers=250_000), COSTS)
    found = installation(demand, COSTS, region)
    assert (found.members, found.redis_servers) == (4 * region.members, 8)
    assert found.busy_cores == pytest.approx(4 * 1.5)
    assert found.scored_per_second == pytest.approx(200_000)
    assert found.core_seconds_per_million == pytest.approx(30)
    assert found.traffic_bytes_per_second.kafka_in == pytest.approx(
        4 * region.traffic_bytes_per_second.kafka_in
    )
    # 500 probabilities and 117 entries take 0.8 / 6,000 s of a core beside the model.
    bulk = installation(replace(demand, categories=500), COSTS, region).spark_core_hours
    assert bulk == pytest.approx(1_000_000 * (0.8 / 6_000 + 11e-6) / 3600)


def test_a_cost_for_a_million_scores_is_that_of_a_month_at_the_planned_rate() -> None:
    found = installation(SHOP, COSTS, plan(SHOP, COSTS))
    cost = monthly_cost(found, Prices(core_hour=0.05))
    assert cost is not None
    # Four cores for an hour, in which 180 million customers are scored.
    assert cost.per_million_scores == pytest.approx(4 * 0.05 / 180)


def test_half_precision_halves_what_all_probabilities_take() -> None:
    shorter = output_bytes(replace(SHOP, probability_bytes=2), 0)
    assert output_bytes(SHOP, 0) - shorter == pytest.approx(2 * 900)


def test_a_refresh_costs_every_customer_once_in_its_period() -> None:
    quiet = replace(SHOP, events_per_second=1e-9)
    refreshed = plan(replace(quiet, refresh_days=1.0), COSTS)
    # 6 us of load and save, 3 of encoding, 1 of Kafka, 15 of scoring.
    assert refreshed.busy_cores == pytest.approx(1_000_000 / 86_400 * 25e-6)
    kept = refreshed.redis_bytes - plan(quiet, COSTS).redis_bytes
    assert kept == pytest.approx(150 * 1_000_000)


def test_long_records_cost_by_the_byte() -> None:
    by_byte = replace(COSTS, kafka_seconds_per_produced_byte=1e-9)
    everything = replace(SHOP, published_entries=0)
    more = plan(everything, by_byte).busy_cores - plan(everything, COSTS).busy_cores
    assert more == pytest.approx(50_000 * 1e-9 * output_bytes(everything, 0))
    # All categories are encoded.
    encoded = plan(everything, COSTS).busy_cores - plan(SHOP, COSTS).busy_cores
    assert encoded == pytest.approx(50_000 * 900 * 9.4e-9)


def test_fewer_customers_for_as_many_events_cost_less() -> None:
    several = plan(replace(SHOP, events_per_customer=5.0), COSTS)
    assert several.busy_cores == pytest.approx(50_000 * (4 + 1 + (6 + 3 + 1 + 15) / 5) * 1e-6)


@pytest.mark.parametrize("entries", [1, 117, 1_000])
def test_a_record_is_as_long_as_the_codec_packs_it(entries: int) -> None:
    empty = empty_states(["c"])
    one = CustomerStates(
        ["c"],
        StateArrays(*empty.arrays)._replace(
            newest_ms=np.array([7], np.int64),
            source_at=np.array([0, 1]), source_topic=np.zeros(1, np.uint32),
            source_partition=np.zeros(1, np.int32), source_offset=np.zeros(1, np.int64),
            sum_at=np.array([0, entries]), sum_column=np.arange(entries, dtype=np.uint32),
            sum_value=np.ones(entries, np.float32),
        ),
    )  # fmt: skip
    # Columns that lie side by side take next to nothing, values that nothing shortens four bytes
    # and a half. The last word is filled.
    one.arrays.sum_value[:] = np.pi * np.arange(1000, 1000 + entries)
    (record,) = pack(one, 1)
    sums_alone = replace(COSTS, record_bytes_per_non_zero=4.5)
    expected = record_bytes(replace(SHOP, non_zeros=entries), sums_alone)
    assert expected > RECORD_HEAD_BYTES
    assert len(record) == pytest.approx(expected, abs=8)


@pytest.mark.parametrize("entries", [1, 10, 0])
def test_a_published_record_is_about_as_long_as_the_encoder_writes_it(entries: int) -> None:
    words = [f"category-{i:03d}" for i in range(900)]
    ids = [f"customer-{i:03d}".encode() for i in range(5)]
    encoder = PropensityEncoder(words, 2, "20261124T080000Z-abcdef", "0123456789abcdef")
    heads = (
        ids, np.full(5, 1_795_000_000_000), 1_795_000_000_500, [("customer-events", 3)],
        np.zeros(5, np.int32), np.full(5, 123_456_789),
    )  # fmt: skip
    if entries:
        chosen = np.arange(5 * entries, dtype=np.int32) % 900
        values = encoder.encode_entries(
            *heads, np.arange(6) * entries, chosen, np.ones(5 * entries, np.int32),
            np.full(5 * entries, 0.5, np.float32),
        )  # fmt: skip
    else:
        values = encoder.encode_all(*heads, np.zeros((5, 900), np.float32))
    real = len(values[0]) + len(ids[0]) + KAFKA_RECORD_BYTES
    assert output_bytes(SHOP, entries) == pytest.approx(real, rel=0.05)


def test_every_cost_has_a_meaning_of_its_own() -> None:
    assert list(MEANINGS) == list(COSTS.as_json())
    assert len(set(MEANINGS.values())) == len(MEANINGS)
