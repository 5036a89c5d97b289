"""One consumer group for each namespace and topic, and one namespace for each group.

Members of one group in two namespaces share the partitions, so each namespace gets a part of the
events. Two groups in one namespace publish everything twice. Neither can be seen in the vectors, so
both are refused: the namespace names its group, and the group's committed offsets name their
namespace (group_offsets.py). Either may change hands while the other side has no members: that is
how a consumer moves to a namespace that was built by a replay, or to a new group.
"""

from __future__ import annotations

import logging

from stream_scorer.errors import FRESH_START, BusUnavailable, InputError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.group_offsets import other_namespace
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.settings.connections import KafkaSettings

log = logging.getLogger(__name__)


def bind_group(admin: KafkaAdmin, kafka: KafkaSettings, namespace: str, store: RedisStore) -> None:
    """Bind group and namespace to each other; call it before the group is joined.

    Raises InputError where one of them belongs to another that is in use, StoreUnavailable, and
    BusUnavailable where that can't be found out.
    """
    topic, group = kafka.input_topic, kafka.group_id
    try:
        others = sorted(admin.namespaces(group, topic) - {namespace})
        if others and admin.members(group):
            raise other_namespace(namespace, ", ".join(others))
    except BusUnavailable as error:
        # The source asks again for each partition that it gets.
        log.info("whose offsets group %s has is asked later: %s", group, error)
        others = []
    holder = store.group_of(topic, group)
    if holder != group:
        if admin.members(holder):
            raise _other_group(group, namespace, holder)
        log.warning("namespace %s moves from group %s to group %s", namespace, holder, group)
        store.give_to(topic, group)
    if others:
        log.warning("group %s moves from namespace %s to %s", group, ", ".join(others), namespace)
        admin.give_to(group, topic, namespace)


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
