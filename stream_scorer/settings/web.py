"""Who may read the status page and look customers up: the settings of [web]."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from stream_scorer.errors import ConfigError
from stream_scorer.settings.connections import SecretFile, Section

LEAST_TOKEN = 16  # characters; whoever can reach the port can try tokens


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+", text):
        raise ValueError("write a host name without port and scheme, such as scorer.example.com")
    return text.lower()


class WebSettings(Section):
    """Who may read the status page and look customers up, at the address of [telemetry]."""

    token: SecretStr | None = None
    token_file: SecretFile | None = None
    host_names: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    customers: bool = True
    forget: bool = False

    def shared_token(self) -> str | None:
        """The token, None where none is set. Raises ConfigError where it can't be read or is no
        token that a header can carry."""
        token = self.secret("web", "token")
        if token is None:
            return None
        if len(token) < LEAST_TOKEN or not re.fullmatch(r"[!-~]+", token):
            remedy = (
                f"must have at least {LEAST_TOKEN} characters, of ASCII and without blanks; make "
                "one, for example with `openssl rand -hex 24`"
            )
            field = "web.token" if self.token_file is None else "web.token_file"
            raise ConfigError(field, "(secret)", remedy)
        return token

    def problems(self) -> list[ConfigError]:
        """One error for each setting that contradicts another."""
        found = self.double_secrets("web", "token")
        if self.forget and self.token is None and self.token_file is None:
            remedy = "needs web.token_file: who may have customers forgotten must be known"
            found.append(ConfigError("web.forget", "true", remedy))
        return found
