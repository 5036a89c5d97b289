"""How to reach Redis: one server, the one that Sentinels name, or a cluster; client options."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from stream_scorer.confidential import read_address, shown_address
from stream_scorer.errors import ConfigError
from stream_scorer.settings.connections import Name, SecretFile, Section

_SENTINEL_PORT = 26_379
_NODE = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[\w.-]+)(?::(\d{1,5}))?")
_REDIS_PORT = 6379
_SENTINEL_ONLY = ("sentinel_username", "sentinel_password", "sentinel_password_file")


def _redis_address(text: str) -> str:
    read_address(text, ("redis", "rediss", "unix"))
    return text


def _addresses(text: str) -> str:
    for address in text.split(",") if text else ():
        found = _NODE.fullmatch(address.strip())
        if found is None or int(found[2] or 1) not in range(1, 65_536):
            raise ValueError("write host:port, several with commas between, as in a:26379,b:26379")
    return text


class RedisSettings(Section):
    """Where feature vectors live."""

    url: Annotated[str, AfterValidator(_redis_address)] = Field(
        default="redis://127.0.0.1:6379/0", repr=False
    )
    mode: Literal["single", "sentinel", "cluster"] = "single"
    other_addresses: Annotated[str, AfterValidator(_addresses)] = ""
    primary_name: Name = "mymaster"
    username: str | None = None
    password: SecretStr | None = None
    password_file: SecretFile | None = None
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    sentinel_password_file: SecretFile | None = None
    ssl_ca_file: SecretFile | None = None
    ssl_certificate_file: SecretFile | None = None
    ssl_key_file: SecretFile | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 5.0
    allow_eviction: bool = False

    @property
    def shown_url(self) -> str:
        """The url without user and password, to be shown in messages."""
        return shown_address(self.url)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each Sentinel, or cluster node: that of the url, then the others."""
        at = urlsplit(self.url)
        port = _SENTINEL_PORT if self.mode == "sentinel" else _REDIS_PORT
        found = [(str(at.hostname), at.port or port)]
        for address in self.other_addresses.split(",") if self.other_addresses else ():
            named = _NODE.fullmatch(address.strip())
            assert named is not None  # checked by the field
            found.append((named[1].strip("[]"), int(named[2] or port)))
        return found

    def problems(self) -> list[ConfigError]:
        """One error for each setting of this section that contradicts another."""
        files = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file")
        found = [
            ConfigError(
                f"redis.{name}",
                getattr(self, name),
                'start redis.url with "rediss://", or remove it',
            )
            for name in files
            if getattr(self, name) is not None and not self.url.startswith("rediss:")
        ]
        if self.mode != "single" and self.url.startswith("unix:"):
            remedy = "name a Sentinel or a node, such as redis://sentinel-1:26379/0"
            remedy += ', or set redis.mode to "single"'
            found.append(ConfigError("redis.url", self.shown_url, remedy))
        if self.mode == "cluster" and urlsplit(self.url).path.strip("/") not in ("", "0"):
            remedy = "a cluster has no database but 0; end it with /0"
            found.append(ConfigError("redis.url", self.shown_url, remedy))
        if self.mode == "single" and self.other_addresses:
            remedy = 'set redis.mode to "sentinel" or "cluster", or remove it'
            found.append(ConfigError("redis.other_addresses", self.other_addresses, remedy))
        if self.mode != "sentinel":
            remedy = 'only Sentinels need it: set redis.mode to "sentinel", or remove it'
            found += [
                ConfigError(
                    f"redis.{name}",
                    "(secret)" if "password" in name else getattr(self, name), remedy,
                )
                for name in _SENTINEL_ONLY
                if getattr(self, name)
            ]  # fmt: skip
        return found + self.double_secrets("redis", "password", "sentinel_password")

    def needs_one_server(self, what: str) -> None:
        """Raises ConfigError for what does not work on a cluster yet."""
        if self.mode == "cluster":
            remedy = f"{what} does not work on a Redis Cluster yet, but with one server"
            raise ConfigError("redis.mode", self.mode, remedy)

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for `redis.Redis.from_url(settings.redis.url, **options)`."""
        chosen = {
            "username": self.username,
            "password": self.secret("redis", "password"),
            "socket_timeout": self.timeout_seconds,
            "socket_connect_timeout": self.timeout_seconds,
        }
        if self.url.startswith("unix:"):
            del chosen["socket_connect_timeout"]
        files = (self.ssl_ca_file, self.ssl_certificate_file, self.ssl_key_file)
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        chosen |= {n: str(f) for n, f in zip(names, files, strict=True) if f is not None}
        return {k: v for k, v in chosen.items() if v is not None}

    def sentinel_options(self) -> dict[str, Any]:
        """Keyword arguments of the clients that ask Sentinels, which have users of their own."""
        chosen = self.client_options()
        for name in ("username", "password"):
            chosen.pop(name, None)
        chosen |= {
            "username": self.sentinel_username,
            "password": self.secret("redis", "sentinel_password"),
            "ssl": True if self.url.startswith("rediss:") else None,
        }
        return {k: v for k, v in chosen.items() if v is not None}
