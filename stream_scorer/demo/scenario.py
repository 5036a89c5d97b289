"""What the demo works on: the public events, split into a past to learn from and a stream.

Everything takes the same path as a user's data: events are Avro, decoded by the Decoder; features
and labels come from core; the model is an artefact on disk.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stream_scorer.core.avro.event_encoder import encode_event_batch
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.features.trend_events import TrendEvents
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows
from stream_scorer.core.trend import DailyCounts, TrendTable, contrast_count, day_of
from stream_scorer.demo.complete_journey import load_events
from stream_scorer.io.files.events import open_events
from stream_scorer.live.shop_trend import ShopTrend
from stream_scorer.settings.tree import Settings

DAY_MS = 86_400_000
UTC = datetime.timezone.utc
# Midnight in the shops' time zone (America/New_York) on 1 October 2017: later events are streamed.
STREAM_FROM_MS = int(datetime.datetime(2017, 10, 1, 4, tzinfo=UTC).timestamp() * 1000)
FIRST_CUTOFF_MS = int(datetime.datetime(2017, 4, 3, 4, tzinfo=UTC).timestamp() * 1000)
WEEK_MS = 7 * DAY_MS
VALIDATION_WEEKS = 2
TRAINING_WEEKS = 2  # from one cut-off to the next; with 1 training takes twice as long

ATTRIBUTES = ["department", "store"]
FIELDS = ["event_id", "customer_id", "event_type", "category_id", "value", "occurred_at"]


@dataclass(frozen=True)
class Scenario:
    """past and stream are events in time order; encoded[i] is (key, value) of stream event i."""

    settings: Settings
    space: FeatureSpace
    past: EventBatch
    stream: EventBatch
    encoded: list[tuple[bytes, bytes]]
    labels: LabelCollector


def prepare(
    folder: Path, bootstrap_servers: str, redis_url: str, households: int | None,
    kinds: Collection[str] | None = None,
) -> Scenario:  # fmt: skip
    """Load the data; write event files, the config and its vocabulary to `folder`.

    kinds: features of other kinds are left out; None: none are.
    """
    table = load_events(households)
    is_past = pc.less(table["occurred_at"], STREAM_FROM_MS)
    past, stream = table.filter(is_past), table.filter(pc.invert(is_past))
    categories = sorted(pc.unique(past["category_id"]).to_pylist())
    (folder / "categories.txt").write_text("\n".join(categories) + "\n", encoding="utf-8")
    config = folder / "stream_scorer.toml"
    config.write_bytes(files("stream_scorer.demo").joinpath("demo.toml").read_bytes())
    settings = _with_servers(Settings.load(config), bootstrap_servers, redis_url)
    kept = tuple(f for f in settings.features if kinds is None or f.kind in kinds)
    settings = settings.model_copy(update={"features": kept})
    past_events, _ = _events(past, folder / "past.parquet")
    stream_events, encoded = _events(stream, folder / "stream.parquet")
    labels = LabelCollector(settings.label_rule(), tuple(categories))
    labels.add(past_events)
    labels.add(stream_events)
    space = settings.feature_space()
    return Scenario(settings, space, past_events, stream_events, encoded, labels)


def training_rows(scenario: Scenario) -> tuple[list[LabelledRows], list[LabelledRows]]:
    """Rows to train on, and later ones to stop by; no label window reaches the stream."""
    horizon_ms = scenario.settings.label_rule().horizon_ms
    weeks = (STREAM_FROM_MS - horizon_ms - FIRST_CUTOFF_MS) // WEEK_MS + 1
    mondays = [FIRST_CUTOFF_MS + i * WEEK_MS for i in range(weeks)]
    validation = mondays[-VALIDATION_WEEKS:]
    training = [monday for monday in mondays if monday + horizon_ms <= validation[0]]
    training = training[::TRAINING_WEEKS]
    rows = list(
        rows_at_cutoffs(scenario.past, scenario.space, scenario.labels, training + validation)
    )
    return rows[: len(training)], rows[len(training) :]


def shop_trend(scenario: Scenario, rows: Sequence[LabelledRows]) -> TrendTable | None:
    """The shop's trend on the days of these rows; None where the config declares none."""
    if not contrast_count(scenario.space):
        return None
    first = min(int(part.as_of_ms.min()) for part in rows)
    last = max(int(part.as_of_ms.max()) for part in rows)
    counts = DailyCounts.of(scenario.space, scenario.past)
    return TrendTable.of(scenario.space, counts, day_of(first), day_of(last))


def count_past(scenario: Scenario, trend: ShopTrend) -> None:
    """Put what the past adds to the shop's trend where the consumer finds it, as a replay of the
    event file into its namespace would."""
    past = scenario.past
    events = TrendEvents.of(scenario.space, past, EventColumns(past))
    if events is None:
        return
    ends = {tp: int(events.of_partition(n)[0].max()) + 1 for n, tp in enumerate(past.partitions)}
    trend.keeper.begin(dict.fromkeys(ends, 0), {})
    trend.keeper.add(events, ends)
    trend.keeper.save()
    trend.keeper.release(list(ends))
    trend.read()


def past_states(scenario: Scenario) -> CustomerStates:
    """Every customer's state at the start of the stream."""
    customer, ids = scenario.past.customer_id.intern()
    return fold_events(empty_states(ids), scenario.past, customer, scenario.space).states


def _events(table: pa.Table, path: Path) -> tuple[EventBatch, list[tuple[bytes, bytes]]]:
    """Events as columns, by way of the event file `path`, and each one's (key, value)."""
    attributes = pc.make_struct(table["department"], table["store"], field_names=ATTRIBUTES)
    pq.write_table(table.select(FIELDS).append_column("attributes", attributes), path)
    # One batch, however many bytes it has: the file is our own.
    (batch,) = open_events(
        [path], batch_records=len(table), max_record_bytes=100_000, max_block_bytes=2**31
    )
    keys = [customer.encode() for customer in table["customer_id"].to_pylist()]
    return batch.events, list(zip(keys, encode_event_batch(batch.events), strict=True))


def _with_servers(settings: Settings, bootstrap_servers: str, redis_url: str) -> Settings:
    kafka = settings.kafka.model_copy(
        update={
            "bootstrap_servers": bootstrap_servers,
            # The mock cluster answers an empty fetch only when this has passed.
            "properties": {"fetch.wait.max.ms": 5},
        }
    )
    redis = settings.redis.model_copy(update={"url": redis_url})
    return settings.model_copy(update={"kafka": kafka, "redis": redis})
