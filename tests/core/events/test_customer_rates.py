"""Who has more events within an hour than one person makes is found, once, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from stream_scorer.core.events import customer_rates
from stream_scorer.core.events.customer_rates import HOUR_MS, CustomerRates, ExtremeRate

START = 500_000 * HOUR_MS


def found(rates: CustomerRates, ids: list[str], at_ms: list[int]) -> list[ExtremeRate]:
    names = sorted(set(ids))
    customer = np.array([names.index(i) for i in ids], np.int32)
    return rates.add(names, customer, np.array(at_ms, np.int64))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_guest_is_reported_once_an_hour_however_events_are_batched(batch: int) -> None:
    rates = CustomerRates(100)
    ids = [name for i in range(300) for name in ("guest", f"c{i % 50}")]
    at_ms = [START + i * HOUR_MS // 300 for i in range(600)]  # two hours
    reported = []
    for i in range(0, 600, batch):
        reported += found(rates, ids[i : i + batch], at_ms[i : i + batch])
    assert [(r.customer_id, r.hour_ms) for r in reported] == [
        ("guest", START), ("guest", START + HOUR_MS),
    ]  # fmt: skip
    assert all(100 < r.events <= 150 for r in reported)
    assert "events.ignored_customer_ids" in str(reported[0])
    assert f"at least {reported[0].events} events" in str(reported[0])


def test_just_as_many_as_allowed_and_no_limit_are_not_reported() -> None:
    rates = CustomerRates(100)
    assert found(rates, ["ann"] * 100, [START] * 100) == []
    assert found(rates, ["ann"] * 100, [START + HOUR_MS] * 100) == []
    assert [r.events for r in found(rates, ["ann"], [START])] == [101]
    assert found(CustomerRates(0), ["ann"] * 100, [START] * 100) == []


def test_counts_are_bounded_and_the_greatest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_rates, "MOST_COUNTS", 20)
    rates = CustomerRates(100)
    reported = []
    for i in range(60):
        ids = ["guest"] * 2 + [f"c{i}-{n}" for n in range(50)]
        reported += found(rates, ids, [START] * len(ids))
    assert [r.customer_id for r in reported] == ["guest"]
    assert len(rates._counts) <= 20
