"""The same vectors with Bytewax: a dataflow of one worker, state by customer in memory.

With the option `recovery` Bytewax keeps snapshots of changed customers in SQLite, once for each
epoch (`epoch_seconds`), from which it resumes; without it a crash loses everything. Records are
decoded and folded a batch at a time.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from peer_job import PeerJob

RECORDS_PER_POLL = 5_000  # as many as the other consumers take

Keyed = tuple[str, dict[str, Any]]


class CustomerVector(StatefulBatchLogic[Any, Any, Any]):
    """A customer's vector."""

    def __init__(self, job: PeerJob, vector: Any) -> None:
        self._job, self._vector = job, vector or {}

    def on_batch(self, values: list[dict[str, Any]]) -> tuple[Iterable[Any], bool]:
        """Fold events; the vector goes on, and state is kept."""
        for event in values:
            self._job.counts.fold(self._vector, event)
        return [(len(values), self._vector)], StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        """What recovery keeps: pickled now, since the dictionary will change."""
        return pickle.dumps(self._vector, 5)


class Kept(StatelessSinkPartition[Any]):
    """The newest vector of each customer, for the report."""

    def __init__(self, job: PeerJob, vectors: dict[str, Any]) -> None:
        self._job, self._vectors = job, vectors

    def write_batch(self, items: list[Any]) -> None:
        """items: (customer, (number of events, vector))."""
        for customer, (events, vector) in items:
            self._vectors[customer] = vector
            self._job.took(events)


class KeptSink(DynamicSink[Any]):
    """`Kept`, for the one worker."""

    def __init__(self, job: PeerJob, vectors: dict[str, Any]) -> None:
        self._job, self._vectors = job, vectors

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Kept:
        """The worker's part."""
        return Kept(self._job, self._vectors)


def main() -> None:
    """Fold the topic's events and report."""
    job = PeerJob.of_command_line()
    vectors: dict[str, Any] = {}

    def decoded(messages: list[KafkaSourceMessage[Any, Any]]) -> list[Keyed]:
        events = [job.counts.event(message.value) for message in messages]
        return [(event["customer_id"], event) for event in events]

    def logic(stored: bytes | None) -> CustomerVector:
        return CustomerVector(job, None if stored is None else pickle.loads(stored))

    flow = Dataflow("vectors")
    brokers = job.bootstrap_servers.split(",")
    source = KafkaSource(brokers, [job.topic], tail=False, batch_size=RECORDS_PER_POLL)
    messages = op.input("topic", flow, source)
    events = op.flat_map_batch("decode", messages, decoded)
    folded = op.stateful_batch("fold", events, logic)
    op.output("keep", folded, KeptSink(job, vectors))
    if job.options["recovery"]:
        init_db_dir(job.folder, 1)
        cli_main(
            flow,
            epoch_interval=timedelta(seconds=job.options["epoch_seconds"]),
            recovery_config=RecoveryConfig(job.folder),
        )
    else:
        cli_main(flow)
    job.done(vectors)


if __name__ == "__main__":
    main()
