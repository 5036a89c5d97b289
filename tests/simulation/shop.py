"""What every schedule shares: settings, a small model, the event log to come, and its meaning.

Times of events are whole days and all half-lives whole days, so that sums are exact.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from plan import MOST_MICRO_BATCH, Plan
from scheduler import EPOCH_SECONDS
from scipy import sparse

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.features import fold
from stream_scorer.core.features.erasure import erased_states
from stream_scorer.core.features.preparation import Preparation, PreparedEvents
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states, pack, unpack
from stream_scorer.core.trend import TrendTable, day_of
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.model import artefact, network_symbol
from stream_scorer.model.artefact import TrainedModel
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings

DAY_MS = 86_400_000
FIRST_DAY = EPOCH_SECONDS // 86_400 - 20
INPUT, OUTPUT, DEAD_LETTERS = "events", "propensities", "dead-letters"
CATEGORIES = ("soup", "bread")
REMEMBERED_IDS = 2
CONFIG = f"""
[kafka]
group_protocol = "classic"
input_topic = "{INPUT}"
output_topic = "{OUTPUT}"
dead_letter_topic = "{DEAD_LETTERS}"
[store]
namespace = "s"
time_to_live_seconds = 0
trend_save_seconds = 2
[batch]
max_events = {MOST_MICRO_BATCH}
max_age_ms = 500
[events]
remember_event_ids = {REMEMBERED_IDS}
[vocabularies]
category_id = ["soup", "bread"]
[[features]]
name = "bought"
on = ["purchase"]
by = ["category_id"]
half_lives = ["1d", "inf"]
[[features]]
name = "trend"
kind = "trend"
by = ["category_id"]
half_lives = ["1d", "7d"]
[labels]
by = "category_id"
actions = [["purchase"]]
horizon = "1d"
[publish]
mode = "all"
[refresh]
every = "20s"
least_change = 0
[model]
engine = "native"
"""


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="simulation-"))


@cache
def settings_of(
    client_id: str, delivery: str, micro_batch: int = MOST_MICRO_BATCH, hot_bytes: int = 0
) -> Settings:
    path = folder() / "settings.toml"
    if not path.exists():
        path.write_text(CONFIG, encoding="utf-8")
    overrides = {
        "kafka": {"client_id": client_id, "delivery": delivery},
        "batch": {"max_events": micro_batch},
        "store": {"hot_bytes": hot_bytes},
    }
    return Settings.load(path, overrides=overrides, environment={})


@cache
def space() -> Any:
    return settings_of("any", "at_least_once").feature_space()


@cache
def model() -> artefact.Artefact:
    """A model of random parameters, but for those of the trend: what a score depends on of it is
    when other members' records were read."""
    settings, path = settings_of("any", "at_least_once"), folder() / "model"
    rule, spec = settings.label_rule(), NetworkSpec((2,), 0.0, True, (2,))
    index, draw = np.arange(len(CATEGORIES)), np.random.default_rng(1)
    layout = Layout.of(space(), rule, index)
    parameters = {
        name: draw.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    parameters["trend_weight"][:] = 0
    parameters["pooled_own_weight"][:, len(layout.own) :] = 0
    symbol = json.dumps(network_symbol.symbol(layout, spec))  # without MXNet
    artefact.save(TrainedModel(space(), rule, index, spec, parameters, symbol), path)
    return artefact.load(path, space().fingerprint)


def engine() -> NativeEngine:
    """A new one for each member: it keeps the trend that it was given."""
    return NativeEngine(model(), threads=1)


@cache
def warm_engine() -> NativeEngine:
    """One of the test itself, with what a schedule would wait for compiled."""
    found = engine()
    found.warm_up(MOST_MICRO_BATCH)
    return found


def expected_scores(matrix: sparse.csr_matrix, as_of_ms: int) -> np.ndarray:
    """(B, N) probabilities of rows as of one moment; the trend has no weight in the model."""
    nothing = np.zeros((1, model().layout.contrasts, len(CATEGORIES)), np.float32)
    warm_engine().use_trend(TrendTable(day_of(as_of_ms), nothing))
    return warm_engine().score(matrix)[:, :, 1]


@cache
def metrics() -> Metrics:
    return Metrics()


@dataclass(frozen=True)
class Event:
    """One record to come. customer "" where it is no event at all."""

    customer: str
    partition: int
    key: bytes
    value: bytes
    row: dict[str, Any]  # the event's fields


def events_of(plan: Plan) -> list[Event]:
    """The log to come, in order. The first events stay the same where there are fewer."""
    draw = random.Random(f"{plan.seed} events")
    rows: list[dict[str, Any]] = []
    places: list[tuple[int, bool]] = []  # partition, and whether it is no event
    for number in range(plan.events):
        customer = f"c{draw.randrange(plan.customers)}"
        row = {
            "event_id": f"e{number}", "customer_id": customer, "event_type": "purchase",
            "category_id": draw.choice(CATEGORIES), "value": 1.0,
            "occurred_at": (FIRST_DAY + draw.randrange(10)) * DAY_MS,
        }  # fmt: skip
        back, again = draw.randint(1, 3), draw.random() < 0.25
        before = [r for r in rows if r["customer_id"] == customer]
        # Its producer sent an event twice. Between partitions there is no order in which ids could
        # be remembered.
        if again and len(before) >= back and not plan.split:
            row = before[-back]
        where, is_junk = draw.randrange(plan.partitions), draw.random() < 0.05
        places.append((where if plan.split else int(customer[1:]) % plan.partitions, is_junk))
        rows.append(row)
    values = encode_events(rows)
    return [
        Event(
            "" if is_junk else row["customer_id"], partition, row["customer_id"].encode(),
            value[:-2] if is_junk else value, row,
        )
        for row, value, (partition, is_junk) in zip(rows, values, places, strict=True)
    ]  # fmt: skip


def prepared(batch: RecordBatch) -> PreparedEvents:
    """The events of records, as the consumer takes them."""
    settings = settings_of("any", "at_least_once")
    preparation = Preparation(settings.event_rules(), space(), settings.memory())
    decoder = Decoder(lambda _key: None, max_record_bytes=10_000)
    decoded = DecodedBatch(*decoder.decode(batch), batch)
    return preparation.prepare(decoded, EPOCH_SECONDS * 1000)


def one_pass(batch: RecordBatch, erased_ms: Mapping[str, int] | None = None) -> CustomerStates:
    """The vectors of all customers of these records, folded at once into an empty store; erased_ms:
    boundaries of those who were erased before."""
    events = prepared(batch)
    states = empty_states(events.customer_ids)
    if erased_ms:
        ids, print_ = list(erased_ms), space().fingerprint
        erased = pack(erased_states(ids, np.array(list(erased_ms.values()))), print_)
        records = dict(zip(ids, erased, strict=True))
        states = unpack(events.customer_ids, [records.get(i) for i in events.customer_ids], print_)
    return fold.fold_stream(states, events.stream, space()).states
