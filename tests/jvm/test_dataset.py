"""A Scala program that has the library as a dependency scores a Dataset as Python does."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).parents[2] / "deploy" / "djl" / "examples"
pytestmark = [pytest.mark.jvm, pytest.mark.timeout(600)]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def example(jar: Path) -> Callable[..., Path]:
    """Builds the example as a team does that uses the library; its jar."""

    def build(*options: str) -> Path:
        command = ["mvn", "-q", "-B", "-f", str(EXAMPLES / "pom.xml"), "clean", "package", *options]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
        return EXAMPLES / "target" / "score-dataset.jar"

    return build


@pytest.fixture(scope="module")
def scala(
    jar: Path, spark: Callable[..., object], example: Callable[..., Path]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Submits the example with these arguments to Spark 4."""
    import pyspark  # noqa: PLC0415 - `spark` has looked whether it is there

    submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    program = example("-P", "spark-4")
    of_spark = jar.parent / "stream-scorer-djl-0.1.0-spark.jar"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                str(submit), "--master", "local[2]", "--conf", "spark.ui.enabled=false",
                "--conf", "spark.log.level=ERROR", "--class", "ScoreDataset",
                "--jars", str(of_spark), str(program), *map(str, arguments),
            ],
            env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    return run


def test_it_compiles_for_spark_3_and_scala_2_12(example: Callable[..., Path]) -> None:
    with zipfile.ZipFile(example()) as made:
        assert "ScoreDataset.class" in made.namelist()


def test_a_scala_program_scores_a_dataset_as_python_does(
    scala, models, snapshot, python_scores, tmp_path
):
    out = tmp_path / "scores"
    done = scala(models("three classes"), f"{snapshot}/part-*.parquet", out)
    print(done.stdout)  # into the log: what a Scala team sees
    assert done.returncode == 0, done.stderr
    assert "scored 4000 customers on Spark 4" in done.stdout
    expected = pq.read_table(python_scores("three classes"))
    found = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("*.parquet")))
    by_id = {i: at for at, i in enumerate(found["customer_id"].to_pylist())}
    order = [by_id[i] for i in expected["customer_id"].to_pylist()]
    theirs = found["probabilities"].combine_chunks().flatten().to_numpy().reshape(4000, -1)[order]
    ours = expected["probabilities"].combine_chunks().flatten().to_numpy().reshape(4000, -1)
    assert np.abs(theirs - ours).max() <= TOLERANCE
    # The three best of the first customer, who is shown: of 14 categories with classes 0 to 2.
    first = re.findall(r"\|(\S+ \S+) +\|(c\d\d) +\|(\d) +\|(0\.\d+) *\|", done.stdout)[:3]
    row = ours[expected["customer_id"].to_pylist().index(first[0][0])].reshape(14, 3)[:, 1:]
    best = np.argsort(-row.reshape(-1), kind="stable")[:3]
    assert [int(whole) for _, _, whole, _ in first] == (best % 2 + 1).tolist()
    shown = [float(probability) for *_, probability in first]
    np.testing.assert_allclose(shown, row.reshape(-1)[best], atol=TOLERANCE)


def test_what_can_t_be_scored_is_one_error_with_its_remedy(
    scala, models, snapshot, python_scores, tmp_path
):
    foreign = scala(models("default"), python_scores("default"), tmp_path / "a")
    assert foreign.returncode != 0
    assert "dataset: customer_id, as_of, probabilities: has no column columns, or two; give " in (
        foreign.stderr.replace("'", "")
    )
    assert not (tmp_path / "a").exists()
    trend = scala(models("trend"), f"{snapshot}/part-*.parquet", tmp_path / "b")
    assert "score a snapshot by SparkScore.scores" in trend.stderr
    # A customer of another model's columns.
    wide = pa.table(
        {
            "customer_id": ["ann"],
            "as_of": pa.array([1_790_000_000_000], pa.timestamp("ms", "UTC")),
            "columns": pa.array([[7, 10**7]], pa.list_(pa.int32())),
            "values": pa.array([[1.0, 2.0]], pa.list_(pa.float32())),
        }
    )  # fmt: skip
    pq.write_table(wide, tmp_path / "wide.parquet")
    wrong = scala(models("default"), tmp_path / "wide.parquet", tmp_path / "c")
    assert wrong.returncode != 0
    assert "BadInput: dataset: " in wrong.stderr
    assert "10000000" in wrong.stderr


def test_the_library_is_a_thin_jar_and_one_for_spark_with_names_of_its_own(jar: Path) -> None:
    named = {kind: jar.parent / f"stream-scorer-djl-0.1.0{kind}.jar"
             for kind in ("", "-spark", "-sources", "-javadoc")}  # fmt: skip
    with zipfile.ZipFile(named[""]) as thin:
        classes = [name for name in thin.namelist() if name.endswith(".class")]
    assert classes
    assert all(name.startswith("streamscorer/djl/") for name in classes)
    with zipfile.ZipFile(named["-spark"]) as shaded:
        names = shaded.namelist()
    for library in (
        "com/google/gson",
        "org/apache/arrow",
        "org/apache/parquet",
        "org/apache/hadoop",
    ):
        assert not [name for name in names if name.startswith(f"{library}/") and "class" in name]
    assert "streamscorer/shaded/gson/Gson.class" in names
    with zipfile.ZipFile(named["-sources"]) as sources:
        assert "streamscorer/djl/DatasetScores.java" in sources.namelist()
    with zipfile.ZipFile(named["-javadoc"]) as documents:
        assert "streamscorer/djl/DatasetScores.html" in documents.namelist()
