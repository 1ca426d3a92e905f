"""Which lies are planned, and whom does each concern?  Pure: JSON in, rules or all problems at once out.

Choice is a matter of the seed, the rule, the consumer and the message only: the same plan and the same messages give
the same lies, however fast they come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, TypeVar

from lying_gateway.event import Event

C = TypeVar("C")
_MASK: Final = (1 << 64) - 1
_ODD: Final = 0x9E3779B97F4A7C15
_NS: Final = 1_000_000_000
_COMMON: Final = frozenset({"kind", "consumers", "channels", "streams", "every", "share", "seqs", "due_s"})
_SPURIOUS: Final = frozenset({"instead"})
KINDS: Final[dict[str, frozenset[str]]] = {
    "lost": frozenset(),
    "held": frozenset(),
    "repeated": frozenset({"times"}),
    "reordered": frozenset({"after", "within_ms"}),
    "delayed": frozenset({"ms"}),
    "queued": frozenset({"limit", "max_age_s"}),
    "conflated": frozenset({"ms"}),
    "foreign-run": _SPURIOUS,
    "foreign-route": _SPURIOUS,
    "no-identity": _SPURIOUS,
    "undecodable": _SPURIOUS,
    "truncated": _SPURIOUS,
    "protocol": _SPURIOUS,
    "oversize": frozenset({"bytes"}),
    "altered": frozenset(),
    "restamped": frozenset({"ms"}),
    "silent": frozenset(),
    "refused": frozenset(),
    "dropped-connection": frozenset({"code", "refuse_s", "replay_limit", "replay_max_age_s"}),
}
WHOLE: Final = frozenset({"dropped-connection", "refused"})
"""Kinds that concern a connection, not messages."""
_WINDOW_NEEDED: Final = frozenset({"held", "queued", "silent", "dropped-connection"})
_NEEDED: Final = {"ms": frozenset({"delayed", "conflated", "restamped"}), "bytes": frozenset({"oversize"})}
_LEAST: Final = {"every": 1, "times": 1, "after": 1, "bytes": 1, "limit": 0, "replay_limit": 0, "code": 1000}
HEALTH: Final = ("honest", "hostile")


class PlanError(ValueError):
    """The plan is refused; the text has every problem with its place."""


def draw(*what: object) -> int:
    """A number of 64 bits that looks random and is always the same for the same arguments."""
    text = ":".join(map(str, what)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


_remembered = lru_cache(maxsize=1 << 16)(draw)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """One planned lie; `index` is its place in the plan. The first rule that chooses a delivery has it."""

    index: int
    seed: int
    kind: str
    consumers: frozenset[int] | None = None  # None: all
    channels: frozenset[str] = frozenset()  # empty: all
    streams: frozenset[int] = frozenset()  # empty: all
    every: int = 0
    share: float = 1.0
    seqs: frozenset[int] | None = None
    from_ns: int = 0  # since the first due of the run
    to_ns: int | None = None
    times: int = 1
    after: int = 1
    within_ns: int = _NS
    wait_ns: int = 0
    limit: int | None = None
    max_age_ns: int | None = None
    instead: bool = False
    code: int = 1006
    refuse_ns: int = 0
    replay_limit: int = 0
    size: int = 0  # bytes of an oversize frame

    def concerns(self, consumer: int | None) -> bool:
        """Whether it may lie to a consumer; None is one without a number."""
        return self.consumers is None or consumer in self.consumers

    def matches(self, event: Event) -> bool:
        """Whether it may lie about a message to anybody."""
        known = event.matches.get(self.index)
        if known is None:
            known = event.matches[self.index] = (
                self.from_ns <= event.since_ns
                and (self.to_ns is None or event.since_ns < self.to_ns)
                and (not self.channels or event.channel in self.channels)
                and (not self.streams or event.stream in self.streams)
                and (self.seqs is None or event.seq in self.seqs)
            )
        return known

    def phase(self, consumer: int) -> int:
        """With `every`: the residue by which a consumer differs from the others."""
        return _remembered(self.seed, self.index, "phase", consumer) % self.every

    def residue(self, event: Event) -> int:
        """With `every`: consumers of this phase are lied to about a message."""
        return (_remembered(self.seed, self.index, "stream", event.stream) + event.seq) % self.every

    def mark(self, consumer: int) -> int:
        """With `share`: a consumer's number, to be combined with the key of a message."""
        return _remembered(self.seed, self.index, "mark", consumer)

    def key(self, event: Event) -> int:
        """With `share`: a message's number."""
        return draw(self.seed, self.index, event.stream, event.seq)

    def chosen(self, marks: Iterable[tuple[C, int]], event: Event) -> list[C]:
        """With `share`: of consumers with their marks those who are lied to about a message."""
        key, limit = self.key(event), int(self.share * (_MASK + 1))
        return [consumer for consumer, mark in marks if ((mark ^ key) * _ODD & _MASK) < limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiePlan:
    """What a gateway is told to do."""

    seed: int = 0
    leak_bytes_per_s: float = 0.0
    record_sends: bool = False
    batch_ms: float = 0.0
    health: str = "honest"
    ping_interval_ms: int = 20_000
    ping_timeout_ms: int = 20_000
    rules: tuple[Rule, ...] = ()


def read_plan(text: str) -> LiePlan:
    """The plan in a JSON text. Raises PlanError."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise PlanError(f"not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise PlanError("a plan is an object")
    problems: list[str] = []
    unknown = raw.keys() - ({field.name for field in fields(LiePlan)} - {"rules"} | {"lies"})
    problems += [f"{key}: unknown key" for key in sorted(unknown)]
    seed = raw.get("seed", 0)
    if type(seed) is not int:
        problems.append("seed: an integer is wanted")
    for key in ("ping_interval_ms", "ping_timeout_ms"):
        if not _whole(raw.get(key, 1), 1):
            problems.append(f"{key}: a whole number of at least 1 is wanted")
    if raw.get("health", "honest") not in HEALTH:
        problems.append(f"health: one of {', '.join(HEALTH)} is wanted")
    for key in ("leak_bytes_per_s", "batch_ms"):
        if not _number(raw.get(key, 0)):
            problems.append(f"{key}: a number of at least 0 is wanted")
    if not isinstance(raw.get("record_sends", False), bool):
        problems.append("record_sends: true or false is wanted")
    lies = raw.get("lies", [])
    rules: list[Rule] = []
    if not isinstance(lies, list):
        problems.append("lies: a list is wanted")
        lies = []
    for index, lie in enumerate(lies):
        found = _problems(lie)
        problems += [f"lies[{index}].{problem}" for problem in found]
        if not problems:
            rules.append(_rule(index, seed, lie))
    if problems:
        raise PlanError("; ".join(problems))
    return LiePlan(rules=tuple(rules), **{key: raw[key] for key in raw if key != "lies"})


def _number(value: object, least: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _whole(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _problems(lie: Any) -> list[str]:
    if not isinstance(lie, dict) or lie.get("kind") not in KINDS:
        return [f"kind: one of {', '.join(KINDS)} is wanted"]
    kind = lie["kind"]
    known = _COMMON | KINDS[kind]
    found = [
        f"{key}: unknown key of {kind}; known are {', '.join(sorted(known))}" for key in sorted(lie.keys() - known)
    ]
    consumers = lie.get("consumers", "all")
    if consumers != "all" and not (isinstance(consumers, list) and all(map(_whole, consumers))):
        found.append('consumers: "all" or a list of slots is wanted')
    channels = lie.get("channels", [])
    if not (isinstance(channels, list) and all(isinstance(channel, str) for channel in channels)):
        found.append("channels: a list of names is wanted")
    for key in ("streams", "seqs"):
        if not (isinstance(lie.get(key, []), list) and all(map(_whole, lie.get(key, [])))):
            found.append(f"{key}: a list of whole numbers is wanted")
    choices = [key for key in ("every", "share", "seqs") if key in lie]
    if len(choices) > 1:
        found.append(f"{choices[1]}: every, share and seqs exclude each other")
    if kind in WHOLE and choices:
        found.append(f"{choices[0]}: {kind} concerns connections, not messages")
    if "share" in lie and not (_number(lie["share"]) and lie["share"] <= 1):
        found.append("share: a number from 0 to 1 is wanted")
    window = lie.get("due_s")
    if window is None:
        if kind in _WINDOW_NEEDED:
            found.append(f"due_s: {kind} needs one")
    elif not (isinstance(window, list) and len(window) == 2 and all(map(_number, window)) and window[0] <= window[1]):
        found.append("due_s: [from, to] is wanted")
    for key, least in _LEAST.items():
        if key in lie and not _whole(lie[key], least):
            found.append(f"{key}: a whole number of at least {least} is wanted")
    for key in ("ms", "within_ms", "max_age_s", "replay_max_age_s", "refuse_s"):
        if key in lie and not _number(lie[key]):
            found.append(f"{key}: a number of at least 0 is wanted")
    found += [f"{key}: {kind} needs it" for key, kinds in _NEEDED.items() if kind in kinds and key not in lie]
    if not isinstance(lie.get("instead", False), bool):
        found.append("instead: true or false is wanted")
    return found


def _rule(index: int, seed: int, lie: dict[str, Any]) -> Rule:
    consumers = lie.get("consumers", "all")
    begin, end = lie.get("due_s", [0, None])
    age = lie.get("max_age_s", lie.get("replay_max_age_s"))
    return Rule(
        index=index,
        seed=seed,
        kind=lie["kind"],
        consumers=None if consumers == "all" else frozenset(consumers),
        channels=frozenset(lie.get("channels", [])),
        streams=frozenset(lie.get("streams", [])),
        every=lie.get("every", 0),
        share=float(lie.get("share", 1.0)),
        seqs=frozenset(lie["seqs"]) if "seqs" in lie else None,
        # without a window also what is due before the first message that came
        from_ns=round(begin * _NS) if "due_s" in lie else -_MASK,
        to_ns=None if end is None else round(end * _NS),
        times=lie.get("times", 1),
        after=lie.get("after", 1),
        within_ns=round(lie.get("within_ms", 1000) * 1_000_000),
        wait_ns=round(lie.get("ms", 0) * 1_000_000),
        limit=lie.get("limit"),
        max_age_ns=None if age is None else round(age * _NS),
        instead=lie.get("instead", lie["kind"] == "truncated"),
        code=lie.get("code", 1006),
        refuse_ns=round(lie.get("refuse_s", 0) * _NS),
        replay_limit=lie.get("replay_limit", 0),
        size=lie.get("bytes", 0),
    )
