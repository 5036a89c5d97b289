"""Which partition a producer sends a record to, by its key: librdkafka's partitioners, and Java's.

Sources: Kafka's Utils.murmur2, and librdkafka's rdmurmur2.c, rdcrc32.c and rdfnv1a.c. A record
without a key has no partition of its own.
"""

from __future__ import annotations

import zlib

_BITS_32 = 0xFFFFFFFF


def partition_of_key(partitioner: str, key: bytes, partitions: int) -> int | None:
    """The partition from 0 to `partitions` - 1. partitioner: a value of kafka.partitioner.

    None where the partitioner spreads such records at random.
    """
    if partitioner.startswith("murmur2"):
        return (_murmur2(key) & 0x7FFFFFFF) % partitions
    if partitioner.startswith("fnv1a"):
        return _fnv1a(key) % partitions
    if not key and partitioner == "consistent_random":
        return None
    return zlib.crc32(key) % partitions


def _murmur2(data: bytes) -> int:
    factor = 0x5BD1E995
    found = (0x9747B28C ^ len(data)) & _BITS_32
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * factor & _BITS_32
        word = (word ^ (word >> 24)) * factor & _BITS_32
        found = (found * factor & _BITS_32) ^ word
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * factor & _BITS_32
    found = (found ^ (found >> 13)) * factor & _BITS_32
    return found ^ (found >> 15)


def _fnv1a(data: bytes) -> int:
    found = 0x811C9DC5
    for byte in data:
        found = (found ^ byte) * 0x01000193 & _BITS_32
    # As a signed number of 32 bits, without its sign.
    return min(found, (1 << 32) - found)
