"""`bench peers` without its servers: what is refused at once, and what is compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import fastavro
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.bench import (
    customer_scaling,
    latency,
    paced_producer,
    peer_comparison,
    peer_processes,
)
from stream_scorer.bench import testbed as beds
from stream_scorer.bench.customer_scaling import ManyCustomers
from stream_scorer.bench.latency import Latency
from stream_scorer.bench.paced_producer import Paced, PacedJob
from stream_scorer.bench.peer import Vectors, declaration
from stream_scorer.bench.peer_comparison import PeerSetup, refuse_other_vectors
from stream_scorer.bench.peer_processes import PeerProcess
from stream_scorer.bench.peers.declared_counts import Vector
from stream_scorer.bench.real_servers import ServerAddresses, open_broker, open_redis
from stream_scorer.bench.time_budget import TimeBudget
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.schemas import parsed
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import Halt, InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs import bench as job

# A peer of three lines, in place of those that need Quix Streams or Bytewax.
PROGRAM = """
import json, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
found = {"events": job["events"] - job["options"]["missing"], "rate": 9.0,
         "vectors": {"c": [[3, 0.1, 7]]}}
Path(job["report"]).write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def testbed() -> Iterator[beds.Testbed]:
    with beds.open_testbed(Sizes(households=10), Findings(), "test") as opened:
        assert opened is not None
        yield opened


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "not given"), (["--peers-python", sys.executable], "quixstreams"),
     (["--peers-python", "/no/such/python"], "No such file")],
)  # fmt: skip
def test_an_environment_without_the_peers_is_refused_with_how_to_make_one(
    words: list[str], said: str
) -> None:
    ran = CliRunner().invoke(cli.app, ["bench", "peers", *words])
    assert ran.exit_code == 2
    line = ran.stderr.strip().splitlines()[-1]  # below the bar of stages
    assert line.startswith("stream-scorer: --peers-python: ")
    assert said in line
    requirements = line.split("pip install -r ")[1].split("`")[0]
    assert "quixstreams" in Path(requirements).read_text(encoding="utf-8")


def test_peers_are_measured_only_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    monkeypatch.setattr(job, "STAGES", {"decode": lambda *_: measured.append("decode")})
    monkeypatch.setattr(peer_comparison, "measure", lambda *_: measured.append("peers"))
    job.bench()
    job.bench(["peers"], setup=PeerSetup())
    assert measured == ["decode", "peers"]


def test_a_redis_with_keys_in_it_is_refused_and_left_alone() -> None:
    with EmbeddedRedis() as server:
        with open_redis(server.url) as (url, client):
            assert url == server.url
            client.set("mine", 1)  # what the benchmark leaves is deleted
        with open_redis(server.url) as (_, client):
            pass
        with open_redis(server.url) as (_, client):
            client.set("mine", 1)
            with (
                pytest.raises(InputError, match=r"--redis.*has 1 keys.*name an empty one"),
                open_redis(server.url),
            ):
                pass
            assert client.get("mine") == b"1"


def test_servers_that_are_not_there_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--redis.*no Redis answers"), open_redis("redis://a:1x"):
        pass
    addresses = ServerAddresses(kafka_jars=tmp_path)
    with (
        pytest.raises(InputError, match=r"--kafka-jars.*tests/images/build jars"),
        open_broker(addresses, tmp_path),
    ):
        pass


def test_a_peers_process_gets_the_job_and_its_report_is_read(
    testbed: beds.Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_processes, "FOLDER", tmp_path)
    (tmp_path / "peer.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "broken.py").write_text("raise SystemExit('no broker')", encoding="utf-8")
    whole, lame = PeerProcess("peer.py", {"missing": 0}), PeerProcess("peer.py", {"missing": 1})
    assert whole.run(sys.executable, testbed, 100) == (9.0, {"c": {3: (0.1, 7)}})
    with pytest.raises(Halt, match=r"peer.py took 99 events of 100"):
        lame.run(sys.executable, testbed, 100)
    with pytest.raises(Halt, match=r"broken.py failed; it printed last: no broker"):
        PeerProcess("broken.py", {}).run(sys.executable, testbed, 100)


def test_a_peer_with_other_vectors_is_refused(testbed: beds.Testbed) -> None:
    testbed.store()
    vectors = Vectors(testbed.client, testbed.scene.space)
    found: dict[str, Vector] = vectors.update([v for _, v in testbed.scene.encoded[:500]])
    ids, ours = list(found), vectors.matrix(found)
    refuse_other_vectors("peer", ours, found, ids, testbed)
    column, (value, ms) = max(found[ids[0]].items(), key=lambda item: item[1][1])
    changed = {**found, ids[0]: {**found[ids[0]], column: (value * 1.01, ms)}}
    with pytest.raises(Halt, match=r"peer: other vectors than ours for 1 customers"):
        refuse_other_vectors("peer", ours, changed, ids, testbed)
    with pytest.raises(Halt, match=rf"vectors of {len(ids) - 1} customers instead of {len(ids)}"):
        refuse_other_vectors("peer", ours, {i: found[i] for i in ids[1:]}, ids, testbed)


def test_events_of_many_customers_meet_records_that_were_there_and_do_not_grow(
    testbed: beds.Testbed,
) -> None:
    testbed.store()
    crowd = ManyCustomers(testbed, "crowd", customers=300)
    crowd.fill(2_000)
    kept = RedisStore(testbed.client, "bench-300", testbed.scene.space.fingerprint)
    ids = [str(i) for i in range(300)]
    before = kept.load(ids)
    assert (before.arrays.newest_ms > 0).all()
    assert crowd.rate(800) > 0
    done = sum(kept.watermarks([("crowd", n) for n in range(4)]).values())
    assert 800 <= done < 2_000  # the next call goes on from here
    after = kept.load(ids)
    assert len(after.arrays.source_offset) > len(before.arrays.source_offset)  # they were applied
    assert after.arrays.newest_ms.tolist() == before.arrays.newest_ms.tolist()
    for column in ("sum_column", "stamp_column"):
        kept_columns = getattr(after.arrays, column).tolist()
        assert kept_columns == getattr(before.arrays, column).tolist()


@pytest.mark.parametrize("customers", [500, 5_000])
def test_a_micro_batch_has_as_many_customers_however_many_there_are(
    testbed: beds.Testbed, monkeypatch: pytest.MonkeyPatch, customers: int
) -> None:
    sent: dict[str, list[bytes]] = {}
    monkeypatch.setattr(testbed, "send", lambda topic, keys, _values: sent.update({topic: keys}))
    testbed.store()
    ManyCustomers(testbed, f"crowd-{customers}", customers).fill(1_200)
    keys = sent[f"crowd-{customers}"]
    assert [len(set(keys[first : first + 400])) for first in (0, 400, 800)] == [200, 200, 200]


def test_latency_ends_with_the_first_record_that_has_the_event_in(
    testbed: beds.Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.4)
    monkeypatch.setattr(latency, "WARM_SECONDS", 0.2)
    monkeypatch.setattr(latency, "JOIN_SECONDS", 0.2)
    beds.untrained(testbed.scene)
    found = latency.latency_at(testbed, "paced", rate=1_000)
    assert 0 <= found.p50_ms <= found.p99_ms
    assert 0 < found.producer.p50_ms <= found.producer.p99_ms
    assert 0 < found.rate <= found.asked == 1_000


def test_an_output_record_is_read_up_to_its_source() -> None:
    schema = parsed("category_propensities")
    record = {
        "customer_id": "c", "as_of": 1, "scored_at": 2, "model_version": "v", "fingerprint": "f",
        "source": {"topic": "in", "partition": 3, "offset": 7}, "propensities": [],
        "probabilities": b"many bytes",
    }  # fmt: skip
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, record)
    first = latency._first_fields(schema)
    found = fastavro.schemaless_reader(BytesIO(body.getvalue()), first, None)
    assert found == {name: record[name] for name in list(record)[:6]}


def test_paced_records_keep_their_bytes_without_pickle(tmp_path: Path) -> None:
    records = [(b"a", b""), (b"", b"\0\xff"), (b"bc", b"def")]
    paced_producer.save_records(tmp_path / "records", records)
    assert paced_producer.load_records(tmp_path / "records") == records


def paced(testbed: beds.Testbed, topic: str, rate: float) -> Paced:
    job = PacedJob(testbed.bootstrap_servers, topic, "", rate, 0.1, 0.3, "")
    return paced_producer.produce(job, testbed.scene.encoded[:50])


def test_a_record_has_the_time_at_which_it_was_due_though_it_was_produced_later(
    testbed: beds.Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced_producer, "SLICE_SECONDS", 0.1)  # so the program is often late
    before_ms = time.time() * 1000
    found = paced(testbed, "due", 500)
    messages = latency._messages(testbed.settings(100), "due", {})
    due = sorted(message.timestamp()[1] for message in messages)
    assert len(due) == 200  # 50 records, four times each
    steps = {later - earlier for earlier, later in pairwise(due)}
    assert steps <= {1, 2, 3}
    assert due[0] >= int(before_ms)
    assert found.p99_ms >= 50  # of which the program's own delay is the most


def test_a_producer_that_cannot_hold_the_rate_is_noted(
    testbed: beds.Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = iter([1_000.0, 900.0])

    def measured(_testbed: object, _topic: str, rate: float) -> Latency:
        return Latency(1.0, 2.0, rate, Paced(1.0, 2.0, next(reached), 0.0))

    monkeypatch.setattr(latency, "latency_at", measured)
    monkeypatch.setattr(latency, "topics_of", lambda *_: nullcontext())
    findings = Findings()
    latency.measure_latency(testbed, 1_000, 2, TimeBudget(100), 1.0, findings)
    (note,) = findings.notes
    assert note.startswith("in 1 of 2 runs the producer could not hold 1,000 events a second")
    assert "it reached 900" in note
    units = [(found.unit, found.runs) for found in findings.results]
    assert units == [("events/s", 2), ("ms", 2), ("ms", 2), ("ms", 2), ("ms", 2)]


def test_no_turn_begins_that_would_end_behind_the_budget() -> None:
    now = [0.0]
    budget = TimeBudget(100, clock=lambda: now[0])
    begun = []
    for turn in budget.turns(9, 0.5):
        begun.append((turn, now[0]))
        now[0] += 20
    assert begun == [(0, 0.0), (1, 20.0)]  # a third one would end at 60
    assert list(budget.turns(9, 0.1)) == [0]  # at least one, though the time is over
    assert len(list(budget.turns(3, 1.0))) == 3


def test_customers_are_not_filled_in_where_no_time_is_left(testbed: beds.Testbed) -> None:
    findings = Findings()
    assert not TimeBudget(1).is_spent
    customer_scaling.measure(testbed, 100, Sizes(), TimeBudget(0), findings)
    assert findings.notes == [customer_scaling.NO_TIME_LEFT]
    assert not findings.results


def test_a_short_case_runs_until_it_says_enough() -> None:
    rates = iter([100.0, 300.0, 200.0, 1.0])
    # 1 s, 0.33 s and 0.5 s of 100 events each are not two seconds; with the fourth it is enough.
    assert peer_comparison.steady_rate(lambda: next(rates), 100) == 150.0
    assert peer_comparison.steady_rate(lambda: 10.0, 100) == 10.0
    many = iter(range(1_000, 2_000))
    assert peer_comparison.steady_rate(lambda: float(next(many)), 100) == 1_002.0  # of five


def test_a_quotient_is_the_median_of_the_turns_with_its_range() -> None:
    findings = Findings()
    findings.compare("ours_vs_theirs", [10.0, 60.0, 30.0], [10.0, 20.0, 15.0])
    assert findings.ratios == {"ours_vs_theirs": 2.0}
    assert findings.ranges == {"ours_vs_theirs": (1.0, 3.0)}


def test_a_declaration_that_the_peers_cannot_fold_is_refused() -> None:
    space = FeatureSpace.compile([Feature("hour", kind="calendar", by=("hour_of_day",))], {})
    with pytest.raises(ValueError, match="hour: the peers know decayed and recency"):
        declaration(space)


def test_an_unset_number_of_runs_is_five_and_of_peers_three() -> None:
    assert (job.sized(7, None).runs, job.sized(7, None).peer_runs) == (5, 3)
    assert (job.sized(7, 2).runs, job.sized(7, 2).peer_runs) == (2, 2)
    assert job.sized(7, None).peer_seconds == 480
    assert job.sized(7, None, minutes=2).peer_seconds == 120
