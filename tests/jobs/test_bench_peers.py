"""`bench peers` without its servers: what is refused at once, and what is compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.bench import latency, peer_comparison, peer_processes
from stream_scorer.bench import testbed as beds
from stream_scorer.bench.customer_scaling import ManyCustomers
from stream_scorer.bench.peer import Vectors, declaration
from stream_scorer.bench.peer_comparison import PeerSetup, refuse_other_vectors
from stream_scorer.bench.peer_processes import PeerProcess
from stream_scorer.bench.peers.declared_counts import Vector
from stream_scorer.bench.real_servers import ServerAddresses, open_broker, open_redis
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import Halt, InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs import bench as job

# A peer of three lines, in place of those that need Quix Streams or Bytewax.
PROGRAM = """
import json, pickle, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
found = {"events": job["events"] - job["options"]["missing"], "rate": 9.0, "vectors": {"c": {}}}
Path(job["report"]).write_bytes(pickle.dumps(found))
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
    assert whole.run(sys.executable, testbed, 100) == (9.0, {"c": {}})
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


def test_events_of_many_customers_meet_records_that_were_there_before(
    testbed: beds.Testbed,
) -> None:
    testbed.store()
    crowd = ManyCustomers(testbed, "crowd", customers=300)
    crowd.fill(2_000)
    kept = RedisStore(testbed.client, "bench-300", testbed.scene.space.fingerprint)
    newest = kept.load(["0", "299"]).arrays.newest_ms
    assert (newest > 0).all()
    assert crowd.rate(800) > 0
    done = sum(kept.watermarks([("crowd", n) for n in range(4)]).values())
    assert 800 <= done < 2_000  # the next call goes on from here


def test_latency_ends_with_the_first_record_that_has_the_event_in(
    testbed: beds.Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.4)
    monkeypatch.setattr(latency, "JOIN_SECONDS", 0.2)
    beds.untrained(testbed.scene)
    found = latency.latency_at(testbed, "paced", rate=1_000)
    assert 0 <= found.p50_ms <= found.p99_ms
    assert found.rate > 0


def test_a_declaration_that_the_peers_cannot_fold_is_refused() -> None:
    space = FeatureSpace.compile([Feature("hour", kind="calendar", by=("hour_of_day",))], {})
    with pytest.raises(ValueError, match="hour: the peers know decayed and recency"):
        declaration(space)


def test_an_unset_number_of_runs_is_five_and_of_peers_three() -> None:
    assert (job.sized(7, None).runs, job.sized(7, None).peer_runs) == (5, 3)
    assert (job.sized(7, 2).runs, job.sized(7, 2).peer_runs) == (2, 2)
