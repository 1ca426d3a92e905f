"""What must every process of a run know?  Frozen by the leading one, carried to workers in Locust's own options."""

from __future__ import annotations

import hashlib

import msgspec

from loadtests.model.registry import CONSUMER

OPTION = "tickstorm_run"
"""Name of the field of Locust's parsed options that carries the configuration to workers."""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as its processes must agree on it."""

    run: str
    profile_text: str  # the effective profile; reading it again gives the same profile
    profile_sha256: str
    tickstorm: str  # version of this package: workers of another version refuse
    origin_ns: int
    origin_unix_ns: int
    clock: str  # `clock_identity` of the master
    clock_port: int  # where the master answers workers that have another clock; 0: nowhere
    started_at: str
    redis: str  # host:port, as publishers reach it
    gateway: str
    postgres: str
    gateway_http: str = ""  # past the proxy; empty: the target names none
    users: dict[str, int]  # planned ones of each kind, after an override
    profile_folder: str  # files that the profile names are relative to it
    stack: str = ""  # folder of the local stack, where its user finds its passwords; empty: an external target
    extensions: dict[str, str] = {}  # name -> version of those that the leading process has: workers need the same

    @property
    def consumers(self) -> int:
        """Planned consumers."""
        return self.users[CONSUMER.name]


def sha256_of(text: str) -> str:
    """The hash by which processes compare profiles."""
    return hashlib.sha256(text.encode()).hexdigest()


def encode_config(config: RunConfig) -> str:
    """As text for an option."""
    return msgspec.json.encode(config).decode()


def decode_config(text: str) -> RunConfig:
    """Raises msgspec.ValidationError where the text is none."""
    return msgspec.json.decode(text, type=RunConfig)
