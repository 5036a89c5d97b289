"""What an event and a scored customer cost, as `bench capacity` measures it and `plan` reckons."""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.result import Result

STAGE = "capacity"  # of `bench`


@dataclass(frozen=True)
class MeasuredCosts(Result):
    """What `bench capacity` measures. Seconds are of processor time.

    loop_: on the thread of the member's loop, which is one; the rest may use all cores. kafka_: of
    one record, and of each byte of one that is produced. A customer is scored in score_seconds +
    score_seconds_per_category * N + score_seconds_per_non_zero * Z. redis_: of the Redis server,
    which works on one thread. A record of b bytes takes redis_key_bytes +
    redis_bytes_per_record_byte * b of Redis's memory, and what a refresh notes of its customer
    redis_note_bytes more. record_bytes_per_non_zero: of a record, beside RECORD_HEAD_BYTES, for
    each value of its vector that is not 0. event_bytes: of the value of an event's record.
    """

    loop_seconds_per_event: float
    loop_seconds_per_customer: float
    encode_seconds_per_customer: float
    kafka_seconds_per_consumed: float
    kafka_seconds_per_produced: float
    kafka_seconds_per_produced_byte: float
    score_seconds: float
    score_seconds_per_category: float
    score_seconds_per_non_zero: float
    redis_seconds_per_customer: float
    redis_key_bytes: float
    redis_bytes_per_record_byte: float
    redis_note_bytes: float
    record_bytes_per_non_zero: float
    event_bytes: float


# What each is called among the results of `bench capacity`.
MEANINGS = {
    "loop_seconds_per_event": "loop: an event decoded, checked and folded",
    "loop_seconds_per_customer": "loop: a customer's record loaded and saved",
    "encode_seconds_per_customer": "a customer's matrix row, and its propensities encoded",
    "kafka_seconds_per_consumed": "Kafka's client: a record consumed",
    "kafka_seconds_per_produced": "Kafka's client: a record produced and confirmed",
    "kafka_seconds_per_produced_byte": "Kafka's client: a byte of it, compressed by lz4",
    "score_seconds": "a customer scored: what does not depend on the following two",
    "score_seconds_per_category": "a customer scored: for each category",
    "score_seconds_per_non_zero": "a customer scored: for each value that is not 0",
    "redis_seconds_per_customer": "Redis: a record read and written",
    "redis_key_bytes": "Redis: memory of a record beside its bytes",
    "redis_bytes_per_record_byte": "Redis: memory for each byte of a record",
    "redis_note_bytes": "Redis: memory of what a refresh notes of a customer",
    "record_bytes_per_non_zero": "a record: for each value that is not 0",
    "event_bytes": "an event's Avro value",
}
