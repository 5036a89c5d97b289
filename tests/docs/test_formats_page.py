"""docs/reference/formats.md is what the code writes: each of its tables against a real file.

A row that is missing on either side, a type, an order, a magic number or a version that differs
makes a test fail.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import redis
from scipy import sparse

from stream_scorer.core.avro import schemas
from stream_scorer.core.drift import reference as drift_reference
from stream_scorer.core.drift.hour import HourSample
from stream_scorer.core.drift.reference import reference_of
from stream_scorer.core.evaluation import model_card
from stream_scorer.core.features import record_head, record_packing, state_codec
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, StateArrays
from stream_scorer.core.freshness import PartitionFreshness, packed_marks
from stream_scorer.core.labels.labels import LabelledRows, LabelRule
from stream_scorer.core.propensities import Entries
from stream_scorer.core.trend import TrendTable
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.io.files import (
    avro_blocks,
    event_paths,
    events,
    feature_columns,
    propensities,
    snapshot_info,
    snapshot_manifest,
    snapshot_writer,
)
from stream_scorer.io.files.scores import ScoreWriter
from stream_scorer.io.files.snapshot_trend import TREND_FILE, trend_content
from stream_scorer.io.stores.announcements import Announcements, ModelIdentity
from stream_scorer.io.stores.drift_store import DriftStore, Put
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.stores.rollout_record import RolloutRecord, write_record
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.model import artefact, params_file
from stream_scorer.model.engines.golden import TOLERANCE
from stream_scorer.model.golden_batch import MOST_ROWS, GoldenBatch
from stream_scorer.model.manifest import FORMAT
from stream_scorer.model.spec import Layout, NetworkSpec

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"
CATEGORIES = ("bread", "wine")
SPACE = FeatureSpace.compile(
    [Feature("purchases", by=("category_id",), half_lives=("2d",)), Feature("all")],
    {"category_id": CATEGORIES},
)
RULE = LabelRule("category_id", (("purchase",),), 1000)

Table = list[list[str]]


def section(heading: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    assert found is not None, f"the page lacks the section {heading}"
    return found[1]


def tables(heading: str) -> list[Table]:
    """The cells of each table of a section, without the header."""
    blocks = re.findall(r"(?:^\|.*\n)+", section(heading), re.M)
    rows = [[line.strip("|").split("|") for line in block.splitlines()[2:]] for block in blocks]
    return [[[plain(cell.strip()) for cell in row] for row in table] for table in rows]


def plain(cell: str) -> str:
    """A cell that is one piece of code, without its marks; any other as it is."""
    return re.sub(r"^`([^`]*)`$", r"\1", cell)


def pairs(table: Table) -> list[tuple[str, str]]:
    return [(first, second) for first, second, *_ in table]


def columns(file: Path) -> list[tuple[str, str]]:
    """(name, type as the page writes it) of each column of a Parquet file."""
    return [(field.name, type_words(field.type)) for field in pq.read_schema(file)]


def type_words(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{f.name}: {type_words(f.type)}' for f in kind)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{type_words(kind.value_type)}>"
    if pa.types.is_list(kind):
        return f"list<{type_words(kind.value_type)}>"
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}, {kind.tz}]"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def labelled_rows() -> LabelledRows:
    matrix = sparse.csr_matrix(np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32))
    return LabelledRows(
        ["a", "b", "c"], np.array([1000, 1000, 2000]), matrix, np.array([0, 1, 1, 2]),
        np.array([0, 1], np.uint32), np.ones(2, np.uint8),
    )  # fmt: skip


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "train"
    info = snapshot_info.SnapshotInfo(SPACE, "category_id", RULE, {"events": {"0": 17}})
    with snapshot_writer.SnapshotWriter(path, info, rows_per_shard=2) as writer:
        writer.write(labelled_rows())
        writer.finish()
    return path


def states(
    sources: int, sums: int, stamps: int, event_ids: int, low_parts: int = 0
) -> CustomerStates:
    """One customer whose record has so many of each."""

    def at(count: int) -> Any:
        return np.array([0, count])

    return CustomerStates(
        ["a"],
        StateArrays(
            newest_ms=np.array([-5]),
            source_at=at(sources), source_topic=np.arange(sources, dtype=np.uint32),
            source_partition=np.zeros(sources, np.int32), source_offset=np.arange(sources),
            sum_at=at(sums), sum_column=np.arange(sums, dtype=np.uint32),
            sum_value=np.ones(sums, np.float32),
            stamp_at=at(stamps), stamp_column=np.arange(stamps, dtype=np.uint32),
            stamp_value=np.ones(stamps, np.float32), stamp_ms=np.arange(stamps),
            recent_at=at(event_ids), recent_id=np.arange(event_ids, dtype=np.uint64),
            low_at=at(low_parts), low_column=np.arange(low_parts, dtype=np.uint32),
            low_value=np.ones(low_parts, np.float32),
        ),
    )  # fmt: skip


def test_frames() -> None:
    (table,) = tables("Records of the topics")
    (confluent, *_, confluent_bytes), (single, *_, single_bytes) = table[0][1:], table[1][1:]
    assert bytes.fromhex(confluent) == schemas.CONFLUENT_MAGIC
    assert bytes.fromhex(single) == schemas.SINGLE_OBJECT_MAGIC
    assert int(confluent_bytes) == len(schemas.confluent_prefix(258))
    assert schemas.confluent_prefix(258)[1:] == (258).to_bytes(4, "big")
    assert int(single_bytes) == len(schemas.single_object_prefix("customer_event"))


def test_event_files_are_recognised_by_what_the_page_says(tmp_path: Path) -> None:
    table, _ = tables("Event files")
    assert [row[0] for row in table] == ["Avro container", "Parquet", "JSON lines", "JSON array"]
    marks = [re.findall(r"first bytes? `([0-9a-f ]+)`", how) for _, how in table]
    starts = [bytes.fromhex(mark) for (mark,) in marks]
    assert starts == [avro_blocks.MAGIC, event_paths.PARQUET_MAGIC, b"{", b"["]
    found = []
    for number, start in enumerate(starts):
        file = tmp_path / str(number)
        file.write_bytes(start)
        found.append(event_paths.format_of(file))
    assert found == ["avro", "parquet", "json", "json array"]
    assert set(found) == set(events._FORMATS)
    suffixes = re.findall(r"`(\.\w+)`", table[2][1])
    assert tuple(suffixes) == event_paths.JSON_SUFFIXES


def test_the_record_has_the_words_of_the_table() -> None:
    words, in_words, _ = tables("The record in Redis")
    header, (sources,) = words[:-1], words[-1:]
    numbers = [number for row in header for number in word_numbers(row[0])]
    assert numbers == list(range(record_head.HEADER_WORDS))
    versions = record_head.RECORD_VERSION, record_head.WITH_LOW_PARTS
    more = "{}; {} where there are low parts; {} more with a boundary; {} more where what follows "
    more += "the sources is packed"
    said = more.format(*versions, record_head.ERASURE, record_head.PACKED)
    assert header[0] == ["0", "version, " + said]
    letters = re.findall(r" ([A-Z])\b", header[1][1])
    sizes = [size for row in in_words for size in row[0].split(", ")]
    for s, u, m, k, low_parts in product((0, 1, 3), repeat=5):
        counts = s, u, m, k
        one = states(s, u, m, k, low_parts)
        (record,) = state_codec.pack(one, 0x1234567800000009)
        found = np.frombuffer(record, np.int32)
        version = versions[low_parts > 0] + record_head.PACKED
        assert found[:9].tolist() == [version, *counts, 9, 0x12345678, -5, -1]
        named = dict(zip(letters, counts, strict=True)) | {"L": low_parts}
        assert sources[0] == "4 S"
        after = 4 * s + sum(words_of(size, named) for size in sizes)
        assert state_codec.in_words(one) == len(numbers) + after


def test_the_packed_body_has_the_tags_and_units_of_the_page() -> None:
    parts, _, tags, moments = tables("The packed body")[:4]
    assert [part for part, *_ in parts][1:5] == ["columns", "values", "moments", "event ids"]
    first = record_packing.THREE_BYTES
    named = {"0": record_packing.WHOLE, "1": record_packing.BEFORE, "2": record_packing.RUN,
             "3": record_packing.BYTE, "4": record_packing.HUNDREDTHS,
             "5, 6, 7": record_packing.ONE, f"{first} to 15": first}  # fmt: skip
    assert [tag for tag, *_ in tags] == list(named)
    assert [int(re.findall(r"\d+", tag)[0]) for tag in named] == list(named.values())
    assert f"the n + {record_packing.LEAST_RUN} values" in tags[2][2]
    assert tags[-1][2].endswith(f"{record_packing.LEAST_TOP - first} + the tag")
    units = record_packing.MILLISECONDS, record_packing.SECONDS, record_packing.DAYS
    words = "{} for ms, {} for seconds, {} for days of"
    assert words.format(*units) in section("The packed body")
    assert [t for t, _ in moments] == ["2 k", "2 v + 1"]


def word_numbers(said: str) -> Iterator[int]:
    """The numbers of "0", "5, 6" or "1 to 4"."""
    ends = [int(number) for number in re.findall(r"\d+", said)]
    yield from range(ends[0], ends[-1] + 1)


def words_of(size: str, counts: dict[str, int]) -> int:
    """How many words "N" or "2 M" are."""
    *factor, letter = size.split()
    return int(factor[0] if factor else 1) * counts[letter]


def test_the_keys_in_redis_are_those_of_the_page() -> None:
    prefix = "NAMESPACE:"
    table = tables("The record in Redis")[-1]
    said = {key for key, _ in table} | {f"{prefix}c:CUSTOMER_ID"}
    with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
        store = RedisStore(client, "NAMESPACE", SPACE.fingerprint)
        store.claim("{}")
        store.keep_identity()
        store.recognise("TOPIC", "id")
        store.group_of("TOPIC", "group")
        store.remember_file_start("FILE", 0)
        store.begin({("TOPIC", 7): 0})
        store.save(states(1, 1, 1, 1), np.arange(1))
        store.advance({("TOPIC", 7): 1}, {("TOPIC", 7): 3})
        model = ModelIdentity("/models/a", "v", "sha")
        Announcements(store.server, "NAMESPACE").announce(model, model)
        Members(store.server, "NAMESPACE").beat(
            MemberSaid("m", "c", "h", 1, (0,), "v", "/models/a", 1, "f", "b", "serving", "", 0)
        )
        refreshes = RefreshStore(store, "NAMESPACE", "TOPIC")
        refreshes.keep({("TOPIC", 7): PartitionFreshness()})
        refreshes.ask(RefreshRequest("a", 1, None))
        at = np.zeros(1, np.int64)
        (mark,) = packed_marks(at, (np.zeros(1, np.int32), at), 1)
        refreshes.note(states(1, 1, 1, 1), [mark], 0, 0)
        erasures = Erasures(store.server, "NAMESPACE", SPACE.fingerprint)
        erasures.erase({"erased": 5})
        store.share_group_with("OTHER", "identity")
        write_record(store.server, "NAMESPACE", RolloutRecord("OTHER", "identity", "switch"))
        sample = HourSample.begin(9, "v", np.arange(len(CATEGORIES)), 4, None)
        samples, listed = DriftStore(store.server, "NAMESPACE"), erasures.list_bytes()
        assert samples.put(9, "m", sample.to_text(), 60_000, listed) is Put.WRITTEN
        trend = Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d"))
        plan = TrendPlan.of(FeatureSpace.compile([trend], {"category_id": CATEGORIES}))
        assert plan is not None
        trends = TrendStore(store.server, "NAMESPACE", plan)
        trends.save({("TOPIC", 7): TrendRecord.empty(plan, 0)})
        stored = json.loads(client.get("NAMESPACE:model") or "")
        of_names = ("refresh:TOPIC:PARTITION", "refresh:asked", "rollout")
        texts = [json.loads(client.get(f"NAMESPACE:{n.replace('PARTITION', '7')}") or "")
                 for n in of_names]  # fmt: skip
        heartbeat = json.loads(client.get("NAMESPACE:members") or "")["m"]
        found = {key.decode() for key in client.scan_iter()}
    as_said = {
        "NAMESPACE:c:a": "NAMESPACE:c:CUSTOMER_ID",
        "NAMESPACE:c:erased": "NAMESPACE:c:CUSTOMER_ID",
        "NAMESPACE:watermark:TOPIC:7": "NAMESPACE:watermark:TOPIC:PARTITION",
        "NAMESPACE:epoch:TOPIC:7": "NAMESPACE:epoch:TOPIC:PARTITION",
        "NAMESPACE:start:TOPIC:7": "NAMESPACE:start:TOPIC:PARTITION",
        "NAMESPACE:refresh:TOPIC:7": "NAMESPACE:refresh:TOPIC:PARTITION",
        "NAMESPACE:r:a": "NAMESPACE:r:CUSTOMER_ID",
        "NAMESPACE:trend:TOPIC:7": "NAMESPACE:trend:TOPIC:PARTITION",
        "NAMESPACE:drift:9": "NAMESPACE:drift:HOUR",
    }
    meanings = dict(pairs(table))
    for name in (*stored, *stored["model"]):
        assert f"`{name}`" in meanings["NAMESPACE:model"]
    assert all(f"`{name}`" in meanings["NAMESPACE:members"] for name in heartbeat)
    noted = json.loads(zlib.decompress(base64.b64decode(sample.to_text())))
    assert all(f"`{name}`" in meanings["NAMESPACE:drift:HOUR"] for name in noted)
    for key, text in zip(of_names, texts, strict=True):
        assert all(f"`{name}`" in meanings[f"NAMESPACE:{key}"] for name in text)
    assert meanings["NAMESPACE:r:CUSTOMER_ID"].startswith(f"{len(mark)} bytes")
    shown = {as_said.get(key, re.sub(r"saved:[0-9a-f]{32}", "saved:OWNER", key)) for key in found}
    assert shown == said


def test_snapshots(snapshot: Path) -> None:
    shard_columns, trend_columns, manifest_keys = tables("Snapshots")
    files = sorted(file.name for file in snapshot.iterdir())
    assert files == ["_manifest.json", "part-00000.parquet", "part-00001.parquet"]
    assert all(f"`{name}`" in section("Snapshots") for name in files)
    assert columns(snapshot / "part-00000.parquet") == pairs(shard_columns)
    manifest = json.loads((snapshot / "_manifest.json").read_bytes())
    assert {key for key, _ in manifest_keys} == set(manifest)
    said = dict(pairs(manifest_keys))
    assert said["format"] == str(manifest["format"]) == str(snapshot_manifest.FORMAT)
    assert set(re.findall(r"`(\w+)`", said["shards"])) == set(manifest["shards"][0])
    assert set(re.findall(r"`(\w+)`", said["labels"])) == set(manifest["labels"])
    assert f"more than {snapshot_writer.MOST_MOMENTS:,} " in said["as_of_ms"]
    content, entry = trend_content(TrendTable(17_000, np.zeros((2, 1, 3), np.float32)))
    (snapshot / TREND_FILE).write_bytes(content)
    assert f"`{TREND_FILE}`" in section("Snapshots")
    assert columns(snapshot / TREND_FILE) == pairs(trend_columns)
    assert set(re.findall(r"`(\w+)`", said["trend"])) == set(entry)
    assert snapshot_manifest.OLD_MANIFEST_FILE == "manifest.json"


def test_other_programs_read_a_snapshot_as_the_page_says(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", section("In other programs"), re.S)
    lines = block.splitlines()
    # Spark is in tests/spark, which reads a snapshot by the same call.
    assert lines.pop() == 'spark.read.parquet("train")'
    lines += re.findall(r"`(polars\.scan_parquet.+?)`", section("In other programs"))
    monkeypatch.chdir(snapshot.parent)
    programs = {"pyarrow": pa, "pandas": pandas, "duckdb": duckdb, "polars": polars}
    read = []
    for line in lines:
        frame = eval(line, dict(programs))
        if isinstance(frame, duckdb.DuckDBPyRelation):
            frame = frame.df()
        if isinstance(frame, polars.LazyFrame):
            frame = frame.collect()
        read.append([str(customer) for customer in frame["customer_id"]])
    assert read == [["a", "b", "c"]] * 5


def test_columns_of_the_features(tmp_path: Path) -> None:
    (table,) = tables("Columns of the features")
    column = feature_columns.Column(
        0, "all", "all", "decayed", (("category_id", "tea"),), "inf", None, "none", 1.0, None
    )
    feature_columns.write_columns(tmp_path / "c.parquet", [column])
    assert columns(tmp_path / "c.parquet") == pairs(table)


@pytest.mark.parametrize(("classes", "width"), [(2, 2), (3, 6)])
def test_scores(tmp_path: Path, classes: int, width: int) -> None:
    table, metadata = tables("Scores")
    file = tmp_path / "scores.parquet"
    with ScoreWriter(file, CATEGORIES, classes, "abc") as writer:
        writer.write(["a"], np.array([5]), np.zeros((1, len(CATEGORIES), classes), np.float32))
    assert columns(file) == pairs(table)
    schema = pq.read_schema(file)
    assert schema.field("probabilities").type.list_size == width
    written = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert {key for key, _ in metadata} == set(written)
    assert json.loads(written["categories"]) == list(CATEGORIES)
    assert written["classes"] == str(classes)


@pytest.mark.parametrize("width", [None, 2])
def test_propensities(tmp_path: Path, width: int | None) -> None:
    (table,) = tables("Propensities as files")
    said = pairs(table)
    chosen: Any = np.zeros((1, 2), np.float32)
    if width is None:
        chosen = Entries(
            np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.int32), np.ones(1, np.float32)
        )
    else:
        (last,) = re.findall(r"last column is `(\w+)`, a `(\S+)`", section("Propensities as files"))
        said[-1] = last
    with propensities.PropensityWriter(tmp_path / "out", CATEGORIES, width) as writer:
        writer.write(states(1, 1, 1, 0), [("events", 0)], chosen)
        writer.finish({})
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == ["_manifest.json", "propensities.parquet"]
    assert all(f"`{name}`" in section("Propensities as files") for name in files)
    assert columns(tmp_path / "out" / "propensities.parquet") == said


def test_the_artefact(tmp_path: Path) -> None:
    files, keys = tables("The artefact")
    index = np.arange(len(CATEGORIES))
    network = NetworkSpec()
    shapes = Layout.of(SPACE, RULE, index).shapes(network)
    parameters = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    model = artefact.TrainedModel(SPACE, RULE, index, network, parameters, "{}")
    golden = GoldenBatch(
        sparse.csr_matrix(np.ones((1, SPACE.width), np.float32)),
        np.full((1, len(CATEGORIES), 2), 0.5, np.float32),
    )
    reference = reference_of(
        SPACE, (golden.matrix, np.ones(1, np.float32), "all"),
        (golden.scores[:, :, 1], np.ones(1, np.float32), "all", "training"),
    )  # fmt: skip
    artefact.save(
        model, tmp_path / "model", golden=golden, card=lambda _: (b"{}", b""), reference=reference
    )
    assert [name for name, _ in files] == sorted(
        (file.name for file in (tmp_path / "model").iterdir()), key=[n for n, _ in files].index
    )
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_bytes())
    assert {key for key, _ in keys} == set(manifest)
    assert dict(pairs(keys))["format"] == str(manifest["format"]) == str(FORMAT)
    assert set(manifest["files"]) == {name for name, _ in files} - {"manifest.json"}
    stored = params_file.read((tmp_path / "model" / artefact.GOLDEN_FILE).read_bytes())
    assert all(f"`{name}`" in section("The artefact") for name in stored)
    assert f"The card has `format` {model_card.FORMAT}," in section("The artefact")
    assert f"at most {MOST_ROWS} rows" in dict(pairs(files))[artefact.GOLDEN_FILE]
    assert f"The reference has `format` {drift_reference.FORMAT}" in section("The artefact")
    stored_names = {*reference.as_json(), *reference.blocks[0].as_json()}
    stored_names |= set(reference.scores[0].as_json())
    assert all(f"`{name}`" in section("The artefact") for name in stored_names - {"name"})
    assert f"more\nthan {np.format_float_scientific(TOLERANCE, trim='-', exp_digits=1)}" in section(
        "The artefact"
    )
