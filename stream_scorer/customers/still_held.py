"""What keeps data of a forgotten customer although records and scores are deleted: said plainly,
with until when, as far as Kafka and Redis tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.labels.labels import DAY_MS
from stream_scorer.customers.erasure_receipt import StillHeld
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.kafka.admin import KafkaAdmin, Topic
from stream_scorer.io.stores.erasures import ErasedRecord
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.erased_samples import ErasedSamples, kept_ms
from stream_scorer.settings.topics import retention_in_words
from stream_scorer.settings.tree import Settings

NO_LIMIT_MS = 2**63 - 1  # Kafka's default of max.compaction.lag.ms


def still_held(
    settings: Settings, server: RedisServer, erased: Iterable[ErasedRecord],
    samples: ErasedSamples | None, scanned: bool,
) -> tuple[StillHeld, ...]:  # fmt: skip
    """samples: what was deleted of the samples for drift, None where that failed. scanned: whether
    the dead letters were looked through."""
    kafka = settings.kafka
    topics = _topics(settings)
    newest = max((r.newest_ms for r in erased if r.newest_ms is not None), default=None)
    dead_letters = "records that could not be applied, with their bytes"
    if not scanned:
        dead_letters += "; --scan-dead-letters counts those that name a customer"
    return (
        StillHeld(
            f"topic {kafka.input_topic}", "the events themselves",
            _input_until(topics.get(kafka.input_topic), newest),
        ),
        StillHeld(
            f"topic {kafka.output_topic}", "scores of before, until they are compacted",
            _output_until(topics.get(kafka.output_topic)),
        ),
        StillHeld(
            f"topic {kafka.dead_letter_topic}", dead_letters,
            _retention(topics.get(kafka.dead_letter_topic)),
        ),
        StillHeld("Redis", "what it has on disk, in replicas and in backups", _redis_until(server)),
        *_samples(settings, samples),
        StillHeld(
            "other namespaces", "vectors that another config keeps, if there are any",
            "run this with that config too; `namespaces list` shows them",
        ),
        StillHeld(
            "snapshots, event files, scores and propensities as files",
            "rows and events of the customers",
            "delete or write them anew; `train`, `replay` and others leave the customers out with "
            "--forgotten FILE, which `customer forget --list` writes",
        ),
        StillHeld(
            "models", "weights that were trained on rows of the customers, among others; no ids",
            "until the next training without them",
        ),
        StillHeld(
            "whoever reads the output topic", "what was read before the tombstone",
            "readers have to delete on a record without a value",
        ),
    )  # fmt: skip


def _samples(settings: Settings, samples: ErasedSamples | None) -> list[StillHeld]:
    days = kept_ms(settings) / DAY_MS
    until = f"kept for {days:.3g} days (labels.horizon, or drift.window where longer, and a day)"
    counts = (
        "how often values occurred, over many customers, and one of 4,096 marks that each shares "
        "with others"
    )
    found = [StillHeld("counts for drift in Redis", counts, until)]
    if samples is None or samples.unread:
        what = "under a hash of the id, recent scores and which actions followed"
        if samples is not None:
            what += f", in {samples.unread:,} lines that another release wrote"
        found.append(StillHeld("samples for drift in Redis", what, until))
    return found


def _topics(settings: Settings) -> Mapping[str, Topic]:
    kafka = settings.kafka
    names = (kafka.input_topic, kafka.output_topic, kafka.dead_letter_topic)
    try:
        return KafkaAdmin(kafka.client_properties()).topics(names)
    except StreamScorerError:
        return {}  # then each says that its settings are not known


def _retention(topic: Topic | None) -> str:
    if topic is None or not topic.config or "retention.ms" not in topic.config:
        return "until when is not known: this user may not read the topic's settings"
    if "delete" not in topic.config.get("cleanup.policy", "delete"):
        return "for ever: the topic deletes nothing by age"
    kept = retention_in_words(topic.config["retention.ms"])
    return f"kept {kept} by retention.ms"


def _input_until(topic: Topic | None, newest_ms: int | None) -> str:
    said = _retention(topic)
    retention_ms = -1
    if topic is not None and topic.config:
        retention_ms = int(topic.config.get("retention.ms", "-1"))
    if retention_ms > 0 and newest_ms is not None:
        said += (
            f", so those up to the newest one until about {moment_text(newest_ms + retention_ms)}"
        )
    return f"{said}; no namespace counts them again"


def _output_until(topic: Topic | None) -> str:
    if topic is None or not topic.config:
        return "until when is not known: this user may not read the topic's settings"
    config = topic.config
    if "compact" not in config.get("cleanup.policy", ""):
        return f"{_retention(topic)}; the topic is not compacted, so tombstones delete nothing"
    lag_ms = int(config.get("max.compaction.lag.ms", NO_LIMIT_MS))
    bound = "max.compaction.lag.ms sets no limit to that"
    if lag_ms < NO_LIMIT_MS:
        bound = f"max.compaction.lag.ms is {retention_in_words(str(lag_ms))}"
    return (
        f"removed when the broker compacts closed segments; {bound}. Where the topic was given "
        "more partitions, older scores stay in the partition that they were in"
    )


def _redis_until(server: RedisServer) -> str:
    try:
        info = server.info("persistence", "replication")
    except StreamScorerError:
        info = {}
    if not info:
        return "until when is not known: this user may not ask (INFO)"
    parts = []
    if info.get("aof_enabled"):
        parts.append("the append-only file until it is rewritten")
    if info.get("rdb_last_save_time"):
        saved = moment_text(int(info["rdb_last_save_time"]) * 1000)
        parts.append(f"the dump until the next save (the last one was at {saved})")
    if info.get("connected_slaves"):
        parts.append(f"{info['connected_slaves']} replicas, which follow at once")
    parts.append("backups that you made until you delete them")
    return (
        f"{'; '.join(parts)}. Where a backup of before is restored, members that run delete the "
        "records again; with none running, run this again with this receipt (--again)"
    )
