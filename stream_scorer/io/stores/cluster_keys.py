"""Where keys lie on a Redis Cluster: every key of a namespace has one of 64 tags.

A cluster keeps a key on the server that has its slot, and the slot is a hash of what stands in the
key's braces, where it has any. What must be read and written in one step needs one tag:

  NS:{s07}:c:CUSTOMER_ID, NS:{s07}:r:...   records, and what a refresh notes: the customer's tag
  NS:{s07}:watermark:TOPIC:PARTITION       of each tag its own, beside NS:{s07}:epoch and :start
  NS:{s07}:saved:OWNER, NS:{s07}:fingerprint
  NS:{s00}:...                             what there is once in a namespace

A customer's tag follows from the id alone. So records, their watermarks and their marks are lost or
kept together: a tag is what one server was for the whole namespace.
"""

from __future__ import annotations

import re
import zlib

from stream_scorer.core.redis_servers import PARTS

TAGS = PARTS  # one for each part of a namespace
_WHOLE = b"{s00}"
_OF_CUSTOMER = b"c:", b"r:"
_TAGGED = re.compile(rb"[^{]*(\{s\d\d\}):")


def tag_name(tag: int) -> str:
    """As it stands in keys: {s07}."""
    return f"{{s{tag:02d}}}"


def tag_of(customer_id: str) -> int:
    """The tag of a customer's keys, 0 to 63."""
    return zlib.crc32(customer_id.encode()) % TAGS


_TAGS = [tag_name(tag).encode() for tag in range(TAGS)]


def placed(key: str | bytes) -> tuple[bytes, bytes]:
    """The tag of a key, such as b"{s07}", and the key with it. Keys as on one server, such as
    NS:c:CUSTOMER_ID, get theirs here."""
    name = key.encode() if isinstance(key, str) else bytes(key)
    namespace, _, rest = name.partition(b":")
    if b"{" not in namespace and rest[:2] in _OF_CUSTOMER:
        tag = _TAGS[zlib.crc32(rest[2:]) % TAGS]
        return tag, b"%b:%b:%b" % (namespace, tag, rest)
    if found := _TAGGED.match(name):
        return found[1], name
    return _WHOLE, b"%b:%b:%b" % (namespace, _WHOLE, rest)
