"""The simulated Redis answers what a real one answers, to whatever a store asks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from simulated_redis import SimulatedRedis, SimulatedServer

from stream_scorer.core.features import fold
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.redis import RedisStore

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
PARTITIONS = [("events", p) for p in range(6)]
CUSTOMERS = ["a", "b", "zoë", "a:b*c"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as embedded:
        yield embedded


def outcome(store: RedisStore, draw: random.Random, make_events: Any) -> Any:
    """What one random question is answered."""
    tps = draw.sample(PARTITIONS, draw.randint(1, 3))
    offsets = {tp: draw.randrange(20) for tp in tps}
    ids = draw.sample(CUSTOMERS, draw.randint(1, 4))
    chosen = draw.choice(["save", "save", "begin", "advance", "watermarks", "load", "other"])
    if chosen == "save":
        rows = [
            {"customer": c, "at": draw.randrange(9), "partition": p, "offset": draw.randrange(20)}
            for c in ids
            for _, p in tps
        ]
        events = make_events(rows)
        customer = np.array([ids.index(str(r["customer"])) for r in rows], np.int32)
        states = fold.fold_events(empty_states(ids), events, customer, SPACE).states
        return store.save(states, np.arange(len(ids))).tolist()
    if chosen in ("begin", "advance"):
        return getattr(store, chosen)(offsets)
    if chosen == "watermarks":
        return store.watermarks(tps)
    if chosen == "load":
        return pack(store.load(ids), SPACE.fingerprint)
    store.recognise("events", draw.choice("12"))
    store.verify()
    return sorted(i for page in store.customer_ids() for i in page)


def answer(*question: Any) -> Any:
    try:
        return outcome(*question)
    except StreamScorerError as error:
        return type(error), str(error)


def contents(client: Any) -> dict[bytes, bytes]:
    """Marks have random names."""
    keys = sorted(client.scan(0, match="*", count=1000)[1])
    return {k.partition(b":saved:")[0]: client.get(k) for k in keys}


@pytest.mark.parametrize("seed", range(10))
def test_the_model_answers_as_a_real_server(
    server: EmbeddedRedis, make_events: Any, seed: int
) -> None:
    with redis.Redis(port=server.port) as real:
        real.flushall()
        clients = [real, SimulatedRedis(SimulatedServer())]
        stores = [RedisStore(client, "test", SPACE.fingerprint) for client in clients]
        for step in range(60):
            if step % 20 == 19:
                for client in clients:  # a restored backup: a watermark of before, and no records
                    client.flushall()
                    client.set("test:watermark:events:0", 3)
            if step == 30:
                for client in clients:
                    client.script_flush()
            given = f"{seed} {step}"
            real_answer, model_answer = (
                answer(store, random.Random(given), make_events) for store in stores
            )
            assert model_answer == real_answer
            assert contents(clients[1]) == contents(clients[0])
