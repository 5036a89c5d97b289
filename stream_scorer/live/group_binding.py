"""One consumer group for each namespace and topic, and one namespace for each group.

Members of one group in two namespaces share the partitions, so each namespace gets a part of the
events. Two groups in one namespace publish everything twice. Neither can be seen in the vectors, so
both are refused: the namespace names its group, and the group's committed offsets name their
namespace and its identity (group_offsets.py). Either may change hands while the other side has no
members: that is how a consumer moves to a namespace that was built by a replay, or to a new group.
While `rollout` moves members one by one, two namespaces may share a group: each names the other.

A Redis that was emptied has lost the identity, and looks like another database. Members that run
put it back within seconds (`Consumer.claim`), so whoever starts meanwhile waits for them, until
they have done it or the group has no members.
"""

from __future__ import annotations

import logging
import time

from stream_scorer.errors import FRESH_START, BusUnavailable, InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.group_offsets import Owner, other_owner
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.log_events import event
from stream_scorer.settings.connections import KafkaSettings

log = logging.getLogger(__name__)

# A member that was killed counts until its session is over, by default after 45 seconds.
IDENTITY_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 1.0


def bind_group(admin: KafkaAdmin, kafka: KafkaSettings, namespace: str, store: RedisStore) -> None:
    """Bind group and namespace to each other; call it before the group is joined.

    Raises InputError where one of them belongs to another that is in use, StoreUnavailable, and
    BusUnavailable where that can't be found out.
    """
    topic, group = kafka.input_topic, kafka.group_id
    try:
        others = _others(admin, kafka, namespace, store)
    except BusUnavailable as error:
        # The source asks again for each partition that it gets.
        log.info("whose offsets group %s has is asked later: %s", group, error)
        others = []
    holder = store.group_of(topic, group)
    if holder != group:
        if admin.members(holder):
            raise _other_group(group, namespace, holder)
        log.warning(
            "namespace %s moves from group %s to group %s", namespace, holder, group,
            extra=event("namespace_moved", namespace=namespace, group=group),
        )  # fmt: skip
        store.give_to(topic, group)
    store.keep_identity()
    if others:
        names = sorted({owner.namespace for owner in others} - {namespace})
        if names:
            log.warning(
                "group %s moves from namespace %s to %s", group, ", ".join(names), namespace
            )
        else:
            log.warning(
                "group %s has read for namespace %s in another Redis database, or in this one "
                "before it was emptied: the store says from where it is read now",
                group, namespace,
            )  # fmt: skip
        admin.give_to(group, topic, Owner(namespace, store.identity))


def _others(
    admin: KafkaAdmin, kafka: KafkaSettings, namespace: str, store: RedisStore
) -> list[Owner]:
    """To whom the group's offsets belong, where that is another, and the group has no members."""
    topic, group = kafka.input_topic, kafka.group_id
    until, members_before = 0.0, 0
    waits = False
    while True:
        owners = sorted(admin.owners(group, topic))
        mine = Owner(namespace, store.stored_identity() if owners else "")
        # Without an identity of its own the namespace is new, or was emptied.
        others = [o for o in owners if not mine.agrees(o) or (o.identity and not mine.identity)]
        if others:
            partner = Owner(*store.shares_group_with())
            others = [o for o in others if o != partner]
        members = admin.members(group) if others else 0
        if not members:
            return others
        # As long as one after the other goes, the rest may be members that were killed later.
        if not waits or members < members_before:
            until = time.monotonic() + IDENTITY_SECONDS
        members_before = members
        # Members that run have committed for this one: the rest is from before it was emptied.
        if mine in owners and all(o.namespace == namespace for o in others):
            return []
        strange = next((o for o in others if o.namespace != namespace), others[0])
        if strange.namespace != namespace or time.monotonic() >= until:
            raise other_owner(mine, strange)
        if not waits:
            waits = True
            log.warning(
                "group %s has members that read for namespace %s, which this Redis database does "
                "not know: waiting until they have written there or are gone, for up to %.0f s "
                "each time that one of them goes",
                group, namespace, IDENTITY_SECONDS,
            )  # fmt: skip
        time.sleep(LOOK_AGAIN_SECONDS)


def check_binding(kafka: KafkaSettings, namespace: str, store: RedisStore) -> None:
    """Raises InputError where the namespace belongs to another group by now."""
    holder = store.group_of(kafka.input_topic, kafka.group_id)
    if holder != kafka.group_id:
        raise _other_group(kafka.group_id, namespace, holder)


def _other_group(group: str, namespace: str, holder: str) -> InputError:
    return InputError(
        "kafka.group_id", group,
        f"group {holder} reads into namespace {namespace}, and with two groups everything is "
        f"published twice; stop the members of {holder} first, or set kafka.group_id to {holder}, "
        f"or {FRESH_START}",
    )  # fmt: skip
