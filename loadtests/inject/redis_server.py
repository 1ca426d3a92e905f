"""What may be asked of a Redis server, past every proxy?  A few commands, each with a timeout; nothing is retried."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from loadtests.inject.errors import NoAnswer, NotThere, Refused
from loadtests.model.address import host_port
from loadtests.model.logins import client_options
from loadtests.model.words import plain

NAME = "tickstorm-inject"
OWN = "tickstorm-"
"""Connections of our own name themselves so, and are spared where others are killed."""

_TIMEOUT_S = 3.0


class Full(Refused):
    """Redis answered OOM: it has no memory left for this command."""


def _words(error: Exception) -> str:
    return f"Redis: {plain(str(error))}"


class RedisServer:
    """One server. Every method raises NotThere, NoAnswer, or Refused where the server answered with an error."""

    def __init__(self, address: str) -> None:
        import redis  # only where Redis itself is asked: it would slow every start of an injector
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.address = address
        self.place = host_port(address)  # where a socket of one's own connects
        self._client = redis.Redis(
            host=self.place[0],
            port=self.place[1],
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name=NAME,
            **client_options(address, os.environ),
        )

    def ask(self, *words: str | bytes | int) -> Any:
        """One command's answer."""
        return self.ask_all([words])[0]

    def ask_all(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        """The answers of several commands, sent at once; a command of two words is given as one."""
        import redis

        pipeline = self._client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        try:
            answers = list(pipeline.execute(raise_on_error=False))
        except redis.ConnectionError as error:
            if isinstance(error.__cause__, ConnectionRefusedError) or "refused" in str(error):
                raise NotThere(_words(error)) from error
            raise NoAnswer(_words(error)) from error
        except redis.TimeoutError as error:
            raise NoAnswer(_words(error)) from error
        except redis.RedisError as error:
            raise Refused(_words(error)) from error
        for answer in answers:
            if isinstance(answer, redis.OutOfMemoryError):
                raise Full(_words(answer))
            if isinstance(answer, redis.RedisError):
                raise Refused(_words(answer))
        return answers

    def info(self, section: str, name: str) -> int:
        """A number of INFO."""
        value = self.ask("INFO", section).get(name)
        if not isinstance(value, int):
            raise Refused(f"Redis: INFO {section} does not tell {name}")
        return value

    def setting(self, name: str) -> str:
        """The value of a setting in force."""
        found = self.ask("CONFIG GET", name)
        if name not in found:
            raise Refused(f"Redis: there is no setting {name}")
        return str(found[name])

    def set(self, **values: str) -> None:
        """Sets settings; `_` in a name stands for `-`."""
        for name, value in values.items():
            self.ask("CONFIG SET", name.replace("_", "-"), value)

    def clients(self) -> dict[int, dict[str, str]]:
        """Who is connected, by id, without connections of our own."""
        found = self.ask("CLIENT LIST")
        return {int(who["id"]): who for who in found if not who.get("name", "").startswith(OWN)}

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()
