"""Who may ask for what. Pure: the time is an argument, and headers are text.

Three kinds of answers. **Open** ones show no more than counts: /metrics, /healthz, /readyz, and
what describes the interface. **Status** is the page and the state of the group. **Customers** is
all that is stored of one. Where a token is set, status and customers need it. Where none is, status
is open, and customers' data is given on a loopback address alone: whoever can reach another address
could read it. To forget a customer always needs the token.

The token comes as `Authorization: Bearer TOKEN`, or in a cookie that the sign-in form sets. The
cookie does not hold the token: it holds a moment and its HMAC by the token, so that it ends by
itself, every member of a group that has the same token takes it, and another token ends it.

A page elsewhere can make a browser ask a loopback address under a host name of its own (DNS
rebinding). So on loopback the header Host must be an address, localhost, or one of
`web.host_names`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from typing import Literal

COOKIE = "stream_scorer"
COOKIE_SECONDS = 12 * 3600

Need = Literal["open", "status", "customers"]


class Access:
    """token: None for none. local: whether only this machine can reach the server. host_names:
    further names that Host may have, in small letters."""

    def __init__(self, token: str | None, *, local: bool, host_names: Sequence[str] = ()) -> None:
        self._token = None if token is None else token.encode()
        self._local, self._host_names = local, frozenset(host_names)

    @property
    def has_token(self) -> bool:
        """Whether a token is set."""
        return self._token is not None

    @property
    def gives_customers(self) -> bool:
        """Whether customers' data is given to anyone at all."""
        return self._local or self.has_token

    def knows_host(self, host: str) -> bool:
        """Whether a request with this Host (with or without port) may be answered."""
        if not self._local:
            return True
        name = _without_port(host).lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._host_names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def admits(self, need: Need, authorization: str, cookie: str, now_s: float) -> bool:
        """Whether a request with these headers may have the answer. now_s: seconds since 1970."""
        return not self.asks_for_token(need) or self.is_signed_in(authorization, cookie, now_s)

    def asks_for_token(self, need: Need) -> bool:
        """Whether only those who have the token may have the answer."""
        if need == "open":
            return False
        return self.has_token or (need == "customers" and not self._local)

    def is_signed_in(self, authorization: str, cookie: str, now_s: float) -> bool:
        """Whether the request has the token."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self._is_cookie(cookie, now_s)

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long for any that is not."""
        if self._token is None:
            return False
        # Of digests: `compare_digest` of texts of other lengths ends sooner.
        ours, theirs = (hashlib.sha256(t).digest() for t in (self._token, given.encode()))
        return hmac.compare_digest(ours, theirs)

    def cookie(self, now_s: float) -> str:
        """The value of a cookie for whoever gave the token."""
        return self._signed(f"{int(now_s) + COOKIE_SECONDS}")

    def _is_cookie(self, cookie: str, now_s: float) -> bool:
        ends, _, _ = cookie.partition(".")
        if self._token is None or not ends.isascii() or not ends.isdigit() or len(ends) > 15:
            return False
        return hmac.compare_digest(self._signed(ends).encode(), cookie.encode()) and (
            now_s < int(ends) <= now_s + COOKIE_SECONDS
        )

    def _signed(self, ends: str) -> str:
        signature = hmac.new(self._token or b"", f"signed in until {ends}".encode(), hashlib.sha256)
        return f"{ends}.{signature.hexdigest()}"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
