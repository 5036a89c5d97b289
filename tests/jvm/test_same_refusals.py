"""One table of snapshots that can't be scored, through all four ways of scoring.

Each is refused in one line with exit status 2 and leaves nothing: by `stream-scorer score`, by its
form on Spark, by the Java command, and by the Java Spark job.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jvm_shop import SPACE
from typer.testing import CliRunner

from stream_scorer import cli

pytestmark = [pytest.mark.jvm, pytest.mark.timeout(600)]
SHARD = "part-00002.parquet"  # its customers have entries
TYPES = {
    "customer_id": pa.string(), "as_of": pa.timestamp("ms", tz="UTC"),
    "columns": pa.list_(pa.int32()), "values": pa.list_(pa.float32()),
}  # fmt: skip


def last(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    """The last row's `column` becomes `value`."""

    def change(table: pa.Table) -> pa.Table:
        cells = table[column].to_pylist()
        cells[-1] = value
        at = table.column_names.index(column)
        return table.set_column(at, column, pa.array(cells, TYPES[column]))

    return change


def entries(columns: list[int], values: Sequence[float | None]) -> Callable[[pa.Table], pa.Table]:
    """The last row has these entries."""
    return lambda table: last("values", values)(last("columns", columns)(table))


def values_of(kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    """The column `values` has another type."""
    return lambda table: table.set_column(3, "values", table["values"].cast(pa.list_(kind)))


def damaged_id(table: pa.Table) -> pa.Table:
    """The customers' ids are no UTF-8, though the column says that they are text."""
    found = pa.array([b"\xff%d" % i for i in range(len(table))], pa.binary())
    ids = pa.StringArray.from_buffers(len(found), *found.buffers()[1:])
    return table.set_column(0, "customer_id", ids)


def moments(table: pa.Table) -> pa.Table:
    """Each as_of has a microsecond more."""
    added = [at.value + 1 for at in table["as_of"].cast(pa.timestamp("us", tz="UTC"))]
    return table.set_column(1, "as_of", pa.array(added, pa.timestamp("us", tz="UTC")))


def no_such(column: int) -> str:
    return f"column {column}, there are only the columns 0 to {SPACE.width - 1}"


# What is said of the shard, word for word the same by all four.
CASES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a column beyond the width": (entries([3, SPACE.width], [1, 1]), no_such(SPACE.width)),
    "a column below 0": (entries([-1, 3], [1, 1]), no_such(-1)),
    "columns that do not ascend": (entries([5, 3], [1, 1]), "columns do not ascend"),
    "a column twice": (entries([3, 3], [1, 1]), "columns do not ascend"),
    "more columns than values": (entries([3, 5], [1]), "columns and values differ in length"),
    "a value that is not a number": (
        entries([3], [float("nan")]), "a value of column 3 is not a finite number",
    ),
    "an infinite value": (
        entries([3], [float("-inf")]), "a value of column 3 is not a finite number",
    ),
    "a customer without an id": (last("customer_id", None), "has nulls"),
    "a customer with an empty id": (last("customer_id", ""), "a customer_id is empty"),
    "an id that is not UTF-8": (damaged_id, "a customer_id is not UTF-8"),
    "a customer without a moment": (last("as_of", None), "has nulls"),
    "a moment between two milliseconds": (moments, "as_of is not in whole milliseconds"),
    "a null among the values": (entries([3, 5], [1, None]), "has nulls"),
    "values of 64 bits": (
        values_of(pa.float64()), "its column values is not lists of numbers of 32 bits",
    ),
    "no values": (lambda table: table.drop_columns(["values"]), "has no column values, or two"),
    "fewer rows than the manifest says": (
        lambda table: table.slice(1), "has 999 rows, its manifest says 1000",
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request, snapshot, tmp_path) -> tuple[Path, str]:
    """`spoilt_snapshot` of each of `CASES`."""
    return spoilt_snapshot(request.param, snapshot, tmp_path)


def spoilt_snapshot(name: str, snapshot: Path, folder: Path) -> tuple[Path, str]:
    """A snapshot spoilt as `CASES` says, with checksums that are right, and what is said of it."""
    spoil, said = CASES[name]
    copy = folder / "snapshot"
    shutil.copytree(snapshot, copy)
    table = pq.read_table(copy / SHARD)
    fields = [field.with_type(TYPES.get(field.name, field.type)) for field in table.schema]
    pq.write_table(spoil(table.cast(pa.schema(fields))), copy / SHARD)
    manifest = json.loads((copy / "_manifest.json").read_text())
    for shard in manifest["shards"]:
        content = (copy / shard["name"]).read_bytes()
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del manifest["checksum"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (copy / "_manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    return copy, f"'{copy / SHARD}': {said}"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out" / "scores"


def assert_refused(status: int, said: str, expected: str, out: Path) -> None:
    assert status == 2, said
    (line,) = [s for s in said.splitlines() if s.startswith("stream-scorer: ")]
    assert line == f"stream-scorer: snapshot: {expected}; copy or write the snapshot again"
    assert "Exception" not in said
    assert not out.parent.exists()


def test_python_refuses_it(case, models, out):
    arguments = ["score", models("default"), case[0], "--out", out]
    done = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert_refused(done.exit_code, done.output, case[1], out)


@pytest.fixture(scope="module")
def spark_session():
    from stream_scorer.spark.session import session  # noqa: PLC0415 - pyspark may be absent

    with session("local[2]") as started:
        yield started


def test_pyspark_refuses_it(case, spark_session, models, out):
    from stream_scorer.errors import InputError  # noqa: PLC0415
    from stream_scorer.spark.scoring import score  # noqa: PLC0415 - pyspark may be absent

    with pytest.raises(InputError) as caught:
        score(spark_session, str(models("default")), str(case[0]), str(out))
    assert_refused(2, f"stream-scorer: {caught.value}", case[1], out)


def test_the_java_command_refuses_it(case, java, models, out):
    done = java("score", models("default"), case[0], "--out", out)
    assert_refused(done.returncode, done.stdout + done.stderr, case[1], out)


# It reads columns by Spark and checks them by the classes of the command, so what the command does
# not show is tried; each start of Spark takes seconds.
@pytest.mark.parametrize(
    "name",
    [
        "a column below 0", "a customer without a moment", "a null among the values",
        "an id that is not UTF-8", "values of 64 bits", "fewer rows than the manifest says",
    ],
)  # fmt: skip
def test_the_java_spark_job_refuses_it(name, snapshot, spark, models, tmp_path, out):
    path, said = spoilt_snapshot(name, snapshot, tmp_path)
    done = spark(models("default"), path, "--out", out)
    assert_refused(done.returncode, done.stdout + done.stderr, said, out)
