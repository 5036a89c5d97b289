"""The same vectors with Quix Streams: a stateful update for each event, state in RocksDB.

With the option `changelog` every change of state also goes to a changelog topic, from which Quix
restores the state of a lost machine; without it state is as safe as the machine's disk. Guarantee,
commit interval (5 s) and RocksDB's options are Quix's defaults. A vector is one pickled value of
its customer's state.
"""

from __future__ import annotations

import pickle
from typing import Any

from peer_job import PeerJob
from quixstreams import Application, State


def main() -> None:
    """Fold the topic's events and report."""
    job = PeerJob.of_command_line()
    vectors: dict[str, Any] = {}

    def fold(event: dict[str, Any], state: State) -> None:
        stored = state.get_bytes("vector")
        vector = {} if stored is None else pickle.loads(stored)
        job.counts.fold(vector, event)
        state.set_bytes("vector", pickle.dumps(vector, 5))
        vectors[event["customer_id"]] = vector
        job.took()

    app = Application(
        job.bootstrap_servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        state_dir=job.folder,
        use_changelog_topics=job.options["changelog"],
        loglevel="WARNING",
    )
    topic = app.topic(job.topic, key_deserializer="bytes", value_deserializer="bytes")
    stream = app.dataframe(topic)
    stream.apply(job.counts.event).update(fold, stateful=True)
    app.run(count=job.events, timeout=60)
    job.done(vectors)


if __name__ == "__main__":
    main()
