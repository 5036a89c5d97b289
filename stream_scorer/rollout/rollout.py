"""A changed feature declaration, rolled out: a new namespace, its model, and the members moved.

The steps, of which the next one is kept in Redis (io/stores/rollout_record.py):
files, topic  the new namespace is built from event files and the topic's log (build.py)
model         its model is waited for, and checked as before an announcement
switch        members are moved by whoever runs them; see below
refresh       every partition is read by a member of the new namespace, and these score all
              customers again who have not acted since (live/refresh.py)
done          the output topic's newest records are all of the new declaration
dropped       the old namespace is deleted, when told

While it waits, the new namespace is kept up with the log, so that a member that gets a partition
has nearly nothing to catch up with.

How members are moved without a gap or a repeat. Old and new members are in one consumer group.
Kafka gives each partition to one member at a time, and its committed offset says up to where
propensities are published, whoever published them. A member that gets a partition from one of the
other namespace folds what its own namespace lacks below that offset, publishes nothing for it, and
goes on there: it is what happens after every rebalance and every crash (live/pipeline.py), so a
kill at any moment leaves what a kill always leaves, and with exactly once the group's generation
and the transaction guard the offset as ever. What is refused otherwise, members of two namespaces
in one group, is allowed while each of the two namespaces names the other (`share_group_with`), and
a member that takes a partition over commits its offset anew under its own namespace's name. So the
committed offsets say which partitions are read for which namespace, and the roll-out is done when
all are the new one's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stream_scorer.backoff import delays
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import InputError, Unavailable
from stream_scorer.io.kafka.admin import GroupPosition, KafkaAdmin, Topic
from stream_scorer.io.stores.bound_namespace import BoundNamespace
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.members import ALIVE_SECONDS
from stream_scorer.io.stores.redis_memory import EvictionWatch
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.stores.rollout_record import (
    ENDED,
    STEPS,
    RolloutRecord,
    forget_record,
    read_record,
    write_record,
)
from stream_scorer.live.consumer import clock_ms, open_store
from stream_scorer.live.counting_rules import bind_rules
from stream_scorer.rollout.build import build_from_files, build_from_topic, check_topic, keep_up
from stream_scorer.rollout.namespaces import still_running
from stream_scorer.rollout.new_model import check_new_model
from stream_scorer.rollout.plan import check_same, planned
from stream_scorer.settings.tree import Settings

LOOK_AGAIN_SECONDS = 1.0
# A partition may change hands twice while a group settles, so all must be moved for so long.
SETTLED_SECONDS = 3.0
NEARLY_THERE_RECORDS = 1000  # what comes while so many are folded is less
FIRST_DELAY_SECONDS = 0.5
MOST_DELAY_SECONDS = 5.0

Positions = Mapping[TopicPartition, GroupPosition]


class Rollout:
    """One roll-out, to the namespace, group and topic of the settings.

    say: given lines for the person who waits. refused_model: why the model that lies there can't be
    served, "" where that is not known. Every method raises InputError, Unavailable, Halt.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        settings.redis.needs_one_server("`rollout`")
        self.refused_model, self._erased_bytes = "", 0
        self.settings, self._say, self._said = settings, say, ""
        self.space = settings.feature_space()
        self.namespace, self._kafka = settings.store.namespace, settings.kafka
        self.store = open_store(settings, self.space)
        self._admin = KafkaAdmin(settings.kafka.client_properties())
        self.record = read_record(self.store.server, self.namespace)

    def close(self) -> None:
        """Close connections."""
        self.store.close()

    @property
    def begun(self) -> RolloutRecord:
        """The record. Raises InputError where none was begun."""
        if self.record is None:
            raise InputError(
                "store.namespace", self.namespace,
                "no roll-out to it was begun; `stream-scorer rollout -c FILE` begins one",
            )  # fmt: skip
        return self.record

    def begin(
        self, files: Sequence[str], topic_from_ms: int | None, *, accept_missing: bool
    ) -> None:
        """Begin, or go on with what was begun.

        Raises InputError where the topic no longer holds all that the files do not, unless
        accept_missing.
        """
        EvictionWatch(self.store.server, allowed=self.settings.redis.allow_eviction).refuse()
        positions = self.positions()
        if self.record is not None and self.was_left(positions):
            self.record = None  # back to it: what it lacks since then is folded
        if self.record is not None:
            check_same(self.record, files, topic_from_ms)
            begun = self.record
        else:
            begun = planned(self.settings, self.store.server, self._admin, files, topic_from_ms)
            check_topic(
                self.settings, self.store, positions, topic_from_ms, accept_missing=accept_missing
            )
        bind_rules(self.store, self.settings)
        holder = self.store.group_of(self._kafka.input_topic, self._kafka.group_id)
        if holder != self._kafka.group_id:
            raise InputError(
                "store.namespace", self.namespace,
                f"group {holder} reads into it; set store.namespace to a new name",
            )  # fmt: skip
        self.store.keep_identity()
        if self.record is None:
            self._keep(begun)

    def build(self, files: Sequence[str], *, accept_missing: bool) -> None:
        """The new namespace, up to nearly the log's end."""
        # Before any event is folded: their events of before are left out from the start.
        self._take_over_erasures()
        if self.begun.step == "files":
            self._say("folding the event files into the new namespace")
            build_from_files(self.settings, self.store, files, self.begun.topic_from_ms)
            self._go_on("topic")
        partitions = sorted(self.positions())
        if self.begun.step == "topic":
            self._say(f"folding {self._kafka.input_topic} into the new namespace")
            build_from_topic(
                self.settings, self.store, partitions, self.begun.topic_from_ms,
                accept_missing=accept_missing,
            )  # fmt: skip
            while keep_up(self.settings, self.store, partitions) > NEARLY_THERE_RECORDS:
                pass
            self._go_on("model")

    def wait_for_model(self, *, wait: bool) -> bool:
        """Whether a model is there that members can serve; with `wait` it is waited for, and the
        namespace kept up.

        Also where that was so before, as long as no member was moved: another may lie there now.
        """
        step = self.begun.step
        if step == "model" or (step == "switch" and not self.moved(self.positions())):
            return self._wait(self._model_can_be_served, wait=wait)
        return True

    def switch(self, *, wait: bool) -> bool:
        """Whether all partitions are read for the new namespace; with `wait` that is waited for."""
        if self.begun.step != "switch":
            return True
        if not self._wait(self._all_switched, wait=wait):
            return False
        self._old().end_sharing()
        self.store.end_sharing()
        self._go_on("refresh")
        return True

    def refresh(self, *, wait: bool) -> bool:
        """Whether all customers are scored by the new namespace's model; with `wait` that is waited
        for."""
        if self.begun.step != "refresh":
            return self.begun.step in ("done", "dropped")
        if not self._wait(self._all_refreshed, wait=wait):
            return False
        self._go_on("done")
        return True

    def leave_out_refresh(self) -> None:
        """Take the roll-out as done, though not all customers are scored again."""
        if self.begun.step == "refresh":
            self._go_on("done")

    def cancel(self) -> None:
        """Call it off. Raises InputError where members of the new namespace read partitions."""
        if STEPS.index(self.begun.step) > STEPS.index("switch"):
            remedy = "its roll-out has ended; roll out the other declaration in a new namespace"
            raise InputError("store.namespace", self.namespace, remedy)
        moved = self.moved(self.positions())
        if moved:
            raise InputError(
                "--cancel", self.namespace,
                f"{moved} partitions are read for it: restart its members with the config of "
                f"{self.begun.replaces}, one after the other, and then cancel again",
            )  # fmt: skip
        if here := still_running(self.store.server, self.namespace):
            raise InputError(
                "--cancel", self.namespace,
                f"{here} runs for it, or was killed within {ALIVE_SECONDS} s, and would get "
                "partitions: stop it, and then cancel again",
            )  # fmt: skip
        self.store.end_sharing()
        self._old().end_sharing()
        forget_record(self.store.server, self.namespace)

    def old_was_dropped(self) -> None:
        """Note that the old namespace is gone."""
        self._go_on("dropped")

    def positions(self) -> Positions:
        """The group's in every partition of the topic. Raises InputError where there is none."""
        name = self._kafka.input_topic
        partitions = self._admin.partitions(name)
        if not partitions:
            raise InputError("kafka.input_topic", name, "there is no such topic")
        return self._admin.positions(self._kafka.group_id, Topic(name, partitions, None))

    def moved(self, positions: Positions) -> int:
        """How many partitions are read for the new namespace."""
        return sum(p.namespace == self.namespace for p in positions.values())

    def was_left(self, positions: Positions) -> bool:
        """Whether the roll-out has ended, and the group reads for another namespace since."""
        ended = self.record is not None and self.record.step in ENDED
        return ended and any(p.namespace not in (None, self.namespace) for p in positions.values())

    def behind(self, positions: Positions) -> int:
        """How many records of the log the new namespace lacks."""
        marks = self.store.watermarks(sorted(positions))
        return sum(max(p.end - marks.get(tp, p.first), 0) for tp, p in positions.items())

    def _model_can_be_served(self, _positions: Positions) -> bool:
        found = check_new_model(self.settings, self.space)
        self.refused_model = found.refused
        if found.said:
            self._tell(found.said)
        if found.good:
            self._go_on("switch")
        return found.good

    def _all_switched(self, positions: Positions) -> bool:
        old, moved = self._old(), self.moved(positions)
        # Again and again, because Redis may have lost it: the old one first, so that its members
        # know of the new ones before these begin.
        old.share_group_with(self.namespace, self.store.identity)
        self.store.share_group_with(self.begun.replaces, self.begun.replaces_identity)
        if moved == len(positions):
            time.sleep(SETTLED_SECONDS)
            return self.moved(self.positions()) == len(positions)
        left = still_running(self.store.server, self.begun.replaces)
        self._tell(
            f"{moved} of {len(positions)} partitions are read for {self.namespace}: restart each "
            f"member of group {self._kafka.group_id} with the new config, one after the other"
            + (f"; those of {self.begun.replaces}: {left}" if left else "")
        )
        return False

    def _all_refreshed(self, positions: Positions) -> bool:
        kept = RefreshStore(self.store, self.namespace, self._kafka.input_topic)
        name = f"rollout-{self.store.identity}-{self.begun.began_ms}"
        found = kept.partitions(sorted(positions))
        done = sum(known.answered == name for known in found)
        if done < len(found):
            asked = kept.asked()
            # Also in place of somebody else's: that one leaves out scores that hardly move, though
            # the old namespace's members may have published last.
            if asked is None or asked.name != name:
                kept.ask(RefreshRequest(name, clock_ms(), None, everyone=True))
            self._tell(
                f"{done} of {len(found)} partitions: their customers are scored again by members "
                f"of {self.namespace}"
            )
        return done == len(found)

    def _wait(self, reached: Callable[[Positions], bool], *, wait: bool) -> bool:
        """Whether `reached`; with `wait` it is asked again and again, until it is."""
        waits = delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random)
        while True:
            try:
                self._take_over_erasures()
                positions = self.positions()
                if reached(positions):
                    return True
                rest = [tp for tp, p in positions.items() if p.namespace != self.namespace]
                keep_up(self.settings, self.store, sorted(rest))
                waits = delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random)
            except Unavailable as error:
                if not wait:
                    raise
                self._tell(f"{error}; trying again")
                time.sleep(next(waits))
            if not wait:
                return False
            time.sleep(LOOK_AGAIN_SECONDS)

    def _take_over_erasures(self) -> None:
        """Leave out whom `customer forget` deleted from the old namespace, also meanwhile."""
        server = self.store.server
        old = Erasures(server, self.begun.replaces, 0)
        length = old.list_bytes()
        if length == self._erased_bytes:
            return
        taken = Erasures(server, self.namespace, self.space.fingerprint).add(old.listed())
        self._erased_bytes = length
        if taken:
            self._say(
                f"{taken:,} customers who were forgotten on request are left out of "
                f"{self.namespace}, too"
            )

    def _old(self) -> BoundNamespace:
        return BoundNamespace(self.store.server, self.begun.replaces, 0)

    def _go_on(self, step: str) -> None:
        # Another process may have gone further: never back.
        stored = read_record(self.store.server, self.namespace) or self.begun
        if STEPS.index(stored.step) < STEPS.index(step):
            stored = replace(stored, step=step)
        self._keep(stored)

    def _keep(self, record: RolloutRecord) -> None:
        write_record(self.store.server, self.namespace, record)
        self.record = record

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._say(line)
            self._said = line
