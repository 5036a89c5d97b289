"""`run` as a process on a Redis Cluster of which one primary is killed, and what looks at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream_scorer.customers.shown import ShownCustomers
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import ConfigError
from stream_scorer.jobs.customer_show import show
from stream_scorer.jobs.export import export
from stream_scorer.jobs.verify import verify
from stream_scorer.live.consumer import open_store
from stream_scorer.rollout.namespaces import list_namespaces
from stream_scorer.settings.tree import Settings
from tests.io.stores.redis_clusters import RedisClusterRig
from tests.jobs.test_run import (
    made_up_events,
    newest_propensities,
    publish,
    rows_of,
    single_pass,
    wait_until_committed,
)


@pytest.fixture(scope="module")
def rig() -> Iterator[RedisClusterRig]:
    with RedisClusterRig() as made:
        yield made


def test_vectors_and_scores_are_right_though_a_primary_was_killed(
    config: Path, kafka: EmbeddedKafka, rig: RedisClusterRig
) -> None:
    nodes = [f"127.0.0.1:{node.port}" for node in rig.nodes]
    environment = {
        "STREAM_SCORER__REDIS__MODE": "cluster",
        "STREAM_SCORER__REDIS__URL": f"redis://{nodes[0]}/0",
        "STREAM_SCORER__REDIS__OTHER_ADDRESSES": ",".join(nodes[1:]),
    }
    settings = Settings.load(config, environment=environment)
    first, second = made_up_events(1000, 1), made_up_events(300, 2)
    command = [sys.executable, "-m", "stream_scorer", "run", "-c", str(config)]
    log = config.with_name("run.log")
    with log.open("wb") as output:
        running = subprocess.Popen(command, stderr=output, env=os.environ | environment)
    try:
        publish(kafka, settings.kafka.input_topic, first)
        wait_until_committed(settings, running)
        at = rig.primary_of(b"{s05}")
        rig.nodes[at].kill()
        publish(kafka, settings.kafka.input_topic, second)
        wait_until_committed(settings, running)
        rig.nodes[at].start()
        expected = single_pass(settings, first + second)
        store = open_store(settings, settings.feature_space())
        states = store.load(sorted(expected))
        store.close()
        for customer, row in rows_of(settings, states).items():
            np.testing.assert_allclose(row, expected[customer], rtol=1e-6, err_msg=customer)
        as_of = dict(zip(states.customer_ids, states.arrays.newest_ms.tolist(), strict=True))
        assert newest_propensities(settings) == as_of
        shown: ShownCustomers = show(settings, [*sorted(expected)[:3], "stranger"])
        assert shown.not_found == 1
        assert not shown.model_problem
        exported = export(settings, config.with_name("snapshot"), None)
        assert exported.rows == len(expected)
        verified = verify(settings, 0, None)
        assert verified.ok
        assert verified.checked == len(expected)
        with pytest.raises(ConfigError, match=r"redis\.mode: 'cluster': .*Redis Cluster yet"):
            list_namespaces(settings)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, log.read_text()
    finally:
        running.kill()
        running.wait()
