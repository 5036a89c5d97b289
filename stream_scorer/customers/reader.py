"""One customer's record, vector and propensities now, for those who ask about customers.

A reader is opened once and answers many look-ups: a look-up is one round trip to Redis, the CSR row
and the engine. With `follow`, a thread of its own takes over an announced model and the shop's
trend, so that no look-up waits for either.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features import csr
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.space import DAY_MS, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.core.trend import TrendTable
from stream_scorer.core.trend_record import TrendPlan
from stream_scorer.customers.current_model import CurrentModel, OpenModel, distinct_models
from stream_scorer.customers.explanation import (
    Explanation,
    ScoredRow,
    explained_propensities,
)
from stream_scorer.customers.shown import (
    ChosenPropensities,
    CustomerShown,
    Propensities,
    ShownCustomers,
    VectorWords,
    chosen_of,
    erased_until_of,
    propensities_of,
)
from stream_scorer.customers.valid_ids import require_ids
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.customer_records import CustomerRecords, StoredCustomers
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.consumer import clock_ms as system_clock_ms
from stream_scorer.live.consumer import redis_client
from stream_scorer.live.shop_trend import READ_SECONDS, ShopTrend, clip_days
from stream_scorer.live.trend_keeper import TrendKeeper
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # as often as members look for an announcement


class CustomerReader:
    """Open one with `open`; a context manager. Safe for several threads.

    Nothing is written to Redis. `problem` says why no propensities can be computed, or why another
    model than the announced one computes them; "" where all is well.
    """

    def __init__(
        self, settings: Settings, clock_ms: Callable[[], int], *, follow: bool = False
    ) -> None:
        self.settings, self.clock_ms = settings, clock_ms
        self.space: FeatureSpace = settings.feature_space()
        self._memory = settings.memory()
        self._words = VectorWords(
            self.space, settings.kafka.input_topic, self._memory.time_to_live_ms
        )
        namespace = settings.store.namespace
        with ExitStack() as opened:  # closed where the rest can't be opened
            server = RedisServer(redis_client(settings))
            opened.callback(server.close)
            self._records = CustomerRecords(server, namespace, self.space.fingerprint)
            self._models = CurrentModel(settings, self.space, Announcements(server, namespace))
            self._trends = self._trend_store(server)
            self._trend = self._read_trend()
            self._closing = opened.pop_all()
        self._day_columns = np.array(
            [b.start for b in self.space.blocks if b.kind == "trend"], np.int64
        )
        self._tables = threading.Lock()  # the shop's trend makes one table after the other
        self._stopping = threading.Event()
        if follow:
            thread = threading.Thread(target=self._follow, name="customer reader", daemon=True)
            thread.start()
            self._closing.callback(thread.join)
            self._closing.callback(self._stopping.set)

    @classmethod
    def open(
        cls,
        settings: Settings,
        clock_ms: Callable[[], int] = system_clock_ms,
        *,
        follow: bool = False,
    ) -> CustomerReader:
        """A reader of the settings' namespace.

        clock_ms: now, in ms since 1970 UTC. follow: keep up with the announced model and the
        shop's trend, for readers that stay open. Raises StoreUnavailable and ConfigError; a model
        that can't be served here is no error until propensities are asked for.
        """
        return cls(settings, clock_ms, follow=follow)

    @property
    def problem(self) -> str:
        """See the class."""
        return self._models.problem

    @property
    def models(self) -> CurrentModel:
        """The model that is served."""
        return self._models

    def show(self, customer_id: str, as_of_ms: int | None = None, top_k: int = 10) -> CustomerShown:
        """As `show_all`, of one customer."""
        return self.show_all([customer_id], as_of_ms, top_k).customers[0]

    def show_all(
        self, customer_ids: Sequence[str], as_of_ms: int | None = None, top_k: int = 10
    ) -> ShownCustomers:
        """What is stored of these customers and what follows from it, in their order.

        as_of_ms: the moment of vectors and propensities, now where it is None; for a customer whose
        newest event is later than now by a producer's clock, that of the event. top_k: how many
        propensities. Raises InputError for what can't be a customer's id, for a moment before a
        customer's newest event or later than now, and for too many ids; StoreUnavailable and
        FingerprintMismatch.
        """
        stored, moments = self._look_up(customer_ids, as_of_ms)
        gone = self._forgotten(stored.states, moments)
        matrix, table = self._matrix(stored.states, moments)
        found: dict[int, Propensities] = {}
        if self._models.serving is not None:
            chosen = self._chosen(stored.states, ~gone, matrix, table, top_k)
            found = {row: _named(*of_row) for row, of_row in chosen.items()}
        shown = tuple(
            self._words.shown(
                stored, row, matrix, int(moments[row]),
                forgotten=bool(gone[row]), propensities=found.get(row),
            )
            for row in range(len(stored.states))
        )  # fmt: skip
        return ShownCustomers(
            self.settings.store.namespace, shown, sum(not one.found for one in shown),
            stored.namespace_known, self.problem,
        )  # fmt: skip

    def propensities(
        self, customer_ids: Sequence[str], as_of_ms: int | None = None, top_k: int | None = None
    ) -> list[Propensities | None]:
        """The propensities of these customers now, most probable first; None for one who is not
        known, or who is forgotten.

        top_k: None for as many as are published; all where that is publish.mode "all". Raises as
        `show_all`, and InputError where no model can be served here.
        """
        return [
            None if found is None else _named(*found)
            for found in self.chosen(customer_ids, as_of_ms, top_k)
        ]

    def chosen(
        self, customer_ids: Sequence[str], as_of_ms: int | None = None, top_k: int | None = None
    ) -> list[tuple[OpenModel, ChosenPropensities] | None]:
        """As `propensities`, but as numbers, each beside the model that they are of: names are
        most of the work where a program asks for all propensities of one customer."""
        stored, moments = self._look_up(customer_ids, as_of_ms, with_expiry=False)
        present = ~self._forgotten(stored.states, moments)
        matrix, table = self._matrix(stored.states, moments)
        found = self._chosen(stored.states, present, matrix, table, top_k)
        return [found.get(row) for row in range(len(stored.states))]

    def explain(
        self,
        customer_id: str,
        categories: Sequence[str] = (),
        as_of_ms: int | None = None,
        *,
        top_categories: int = 3,
        top_inputs: int | None = 10,
        model: OpenModel | None = None,
    ) -> Explanation:
        """Why the customer has its propensities: of these categories, or of the top_categories
        most probable, with the top_inputs that matter most, None for all.

        as_of_ms: as of `show_all`. model: in place of the one that serves the customer. Raises as
        `propensities`, and InputError for a category that the model has not.
        """
        stored, moments = self._look_up([customer_id], as_of_ms)
        as_of, namespace = moment_text(int(moments[0])), self.settings.store.namespace
        problem = "" if model is not None else self.problem
        model = model or self._models.of(customer_id)
        newest = stored.states.arrays.newest_ms
        if newest[0] == NEVER:
            erased = erased_until_of(stored.states)
            return Explanation(customer_id, False, namespace, as_of, erased_until=erased)
        found = Explanation(
            customer_id, True, namespace, as_of, moment_text(int(newest[0])),
            bool(self._forgotten(stored.states, moments)[0]), model.engine.model_version,
            calibration=str(model.artefact.manifest.calibration.get("kind", "")),
            model_problem=problem, erased_until=erased_until_of(stored.states),
        )  # fmt: skip
        if found.forgotten:
            return found
        matrix, trend = self._matrix(stored.states, moments)
        scored = ScoredRow(
            matrix, self._words.values(stored.states, int(moments[0])), trend,
            model.scores(matrix, trend)[0],
        )  # fmt: skip
        explained = explained_propensities(
            model, self._words, self.space, scored, categories, top_categories, top_inputs
        )
        return replace(found, explained=explained)

    def close(self) -> None:
        """Close the connections, and end the thread that follows."""
        self._closing.close()

    # What is asked of Redis.

    def _look_up(
        self, customer_ids: Sequence[str], as_of_ms: int | None, *, with_expiry: bool = True
    ) -> tuple[StoredCustomers, Int64]:
        """The records, and the moment of each (B,)."""
        require_ids(customer_ids, self.settings.events.max_record_bytes)
        now_ms = self.clock_ms()
        if as_of_ms is not None and as_of_ms > now_ms:
            remedy = "lies in the future, and nobody knows who acts until then; give an earlier one"
            raise InputError("as_of", moment_text(as_of_ms), remedy)
        stored = self._records.load(customer_ids, with_expiry=with_expiry)
        newest = stored.states.arrays.newest_ms
        if as_of_ms is None:
            return stored, np.maximum(newest, now_ms)
        late = np.flatnonzero(newest > as_of_ms)
        if len(late):
            customer = stored.states.customer_ids[int(late[0])]
            remedy = (
                f"customer {customer} has had an event at {moment_text(int(newest[late[0]]))}, and "
                "what was known before it is not stored: give that moment or a later one, or "
                "replay the events up to an earlier one"
            )
            raise InputError("as_of", moment_text(as_of_ms), remedy)
        return stored, np.full(len(newest), as_of_ms, np.int64)

    def _forgotten(self, states: CustomerStates, moments: Int64) -> Bool:
        """(B,) who is forgotten as of these moments (B,)."""
        return is_forgotten(states.arrays.newest_ms, moments, self._memory)

    # Scores.

    def _matrix(
        self, states: CustomerStates, moments: Int64
    ) -> tuple[sparse.csr_matrix, TrendTable | None]:
        """(B, F) as members score it, and the table of the shop's trend for it."""
        matrix = csr.build(states, self.space, moments)
        trend = self._trend
        if trend is None:
            return matrix, None
        with self._tables:
            table = trend.table(moments, published=False)
        clip_days(matrix, self._day_columns, moments, table)
        return matrix, table

    def _chosen(
        self,
        states: CustomerStates,
        present: Bool,
        matrix: sparse.csr_matrix,
        table: TrendTable | None,
        top_k: int | None,
    ) -> dict[int, tuple[OpenModel, ChosenPropensities]]:
        """By row, of those who are present (B,) and have done anything at all."""
        found: dict[int, tuple[OpenModel, ChosenPropensities]] = {}
        chosen = np.flatnonzero(present & (states.arrays.newest_ms != NEVER)).tolist()
        serving = [self._models.of(states.customer_ids[row]) for row in chosen]
        if not chosen:
            return found
        policy = self._policy(top_k)
        for model, of_model in distinct_models(serving):
            some = [chosen[i] for i in of_model]
            # A copy of its rows costs as much as scoring one.
            scores = model.scores(matrix if len(some) == len(states) else matrix[some], table)
            for row, one in zip(some, chosen_of(scores, policy), strict=True):
                found[row] = model, one
        return found

    def _policy(self, top_k: int | None) -> PublishPolicy:
        policy = self.settings.publish_policy()
        if top_k is not None:
            if top_k < 1:
                raise InputError("top_k", top_k, "give 1 or more")
            return PublishPolicy("top_k", top_k)
        # All of them, most probable first.
        return PublishPolicy("threshold", 0, 0.0) if policy.mode == "all" else policy

    # What changes while it is open.

    def _trend_store(self, server: RedisServer) -> TrendStore | None:
        plan = TrendPlan.of(self.space)
        return None if plan is None else TrendStore(server, self.settings.store.namespace, plan)

    def _read_trend(self) -> ShopTrend | None:
        """The shop's trend as Redis has it now; None where the declaration has none."""
        if self._trends is None:
            return None
        # A keeper of no partition: it reads and writes nothing.
        keeper = TrendKeeper(self._trends, lambda _partitions: {}, READ_SECONDS)
        trend = ShopTrend(self._trends, keeper, self.settings.kafka.input_topic, self.clock_ms)
        trend.read()
        # Up to tomorrow, so that no look-up waits for it when the day changes.
        trend.table(np.array([self.clock_ms() + DAY_MS]), published=False)
        return trend

    def _follow(self) -> None:
        waited = 0.0
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._models.look()
                waited += LOOK_SECONDS
                if waited >= READ_SECONDS:
                    waited, self._trend = 0.0, self._read_trend()
            except StreamScorerError as error:
                log.warning("the reader of customers goes on with what it has: %s", error)
            except Exception:
                # Such as MemoryError: the model and the trend of before still serve.
                log.exception("an error that nobody expected; the reader goes on with what it has")

    def __enter__(self) -> CustomerReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _named(model: OpenModel, chosen: ChosenPropensities) -> Propensities:
    return propensities_of(chosen, model.engine, model.artefact.manifest.labels)
