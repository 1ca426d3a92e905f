"""What does a profile say of a fault?  A table for each kind, made from its row, with the keys of that kind alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import BaseModel, Field, TypeAdapter, create_model, model_validator

from loadtests.model.fault_kinds import KINDS, OWN_KEYS
from loadtests.model.kinds import FaultKind
from loadtests.model.profile.base import Name, Positive, Seconds, Table, refuse, takes

CONSUMERS, PUBLISHERS = "consumers", "publishers"
"""What a fault on all groups names instead of a group; also the keys that name one."""

PLACES = ("link", "service", CONSUMERS, PUBLISHERS)
"""Keys that say where a fault acts."""


class Repeat(Table):
    """How often a fault comes, and how far apart its starts are."""

    times: Annotated[int, Field(ge=1, le=1000)]
    every_s: Positive
    random: bool = False  # once in each every_s, at an instant that the run's seed draws


class Fault(Table):
    """What all faults have. Times count from the end of the warm-up, or from another fault's recovery."""

    all_keys: ClassVar[type[BaseModel]]
    """The table with the keys of every kind: what documents, forms and settings know."""

    name: Name
    kind: str
    link: Name | None = None
    service: Literal["redis", "postgres", "toxiproxy", "gateway", "producer"] | None = None
    consumers: Name | None = None  # a group; absent = all groups
    publishers: Name | None = None  # a group; absent = all groups
    at_s: Seconds
    for_s: Annotated[float, Field(gt=0, le=24 * 3600)]
    after: Name | None = None  # a fault: at_s counts from when that one was recovered from, or its limit had passed
    direction: Literal["both", "downstream", "upstream"] = "both"  # downstream: from the server to who connected
    recovery_limit_s: Annotated[float, Field(gt=0, le=3600)] | None = None  # else recovery.limit_s
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        asked, problems = self.asked, self._place_problems()
        jitter_ms, latency_ms = asked.get("jitter_ms", 0), asked.get("latency_ms", 0)
        if jitter_ms > latency_ms:  # type: ignore[operator]
            problems.append(f"jitter_ms: found {jitter_ms}, allowed at most latency_ms, {latency_ms}")
        size, varies = asked.get("average_size_bytes"), asked.get("size_variation_bytes", 0)
        if size is not None and varies >= size:  # type: ignore[operator]
            problems.append(
                f"size_variation_bytes: found {varies}, allowed below average_size_bytes, {size}: Toxiproxy would crash"
            )
        if self.direction != "both" and not KINDS[self.kind].directions:
            problems.append(f'direction: found "{self.direction}" with kind "{self.kind}", allowed "both"')
        period_s = asked.get("period_s", 0)
        if period_s > self.for_s:  # type: ignore[operator]
            problems.append(f"period_s: found {period_s:g}, allowed up to for_s, {self.for_s:g}")
        if self.repeat is not None and self.repeat.every_s <= self.for_s:
            problems.append(f"repeat.every_s: found {self.repeat.every_s}, allowed above for_s, {self.for_s}")
        refuse(problems)
        return self

    def _place_problems(self) -> list[str]:
        kind = KINDS[self.kind]
        problems = [
            f'{key}: found "{getattr(self, key)}", allowed nothing with kind "{self.kind}"'
            for key in PLACES
            if key != kind.place and getattr(self, key) is not None
        ]
        if kind.place == "link" and self.link is None:
            problems.append(f'link: found nothing, allowed a link, which kind "{self.kind}" needs')
        if kind.place == "service":
            allowed = ", ".join(f'"{name}"' for name in kind.services)
            if self.service is None and len(kind.services) > 1:
                problems.append(f'service: found nothing, allowed one of {allowed}, which kind "{self.kind}" needs')
            elif self.service is not None and self.service not in kind.services:
                problems.append(f'service: found "{self.service}", allowed with kind "{self.kind}": {allowed}')
        return problems

    @property
    def where(self) -> str:
        """What it acts on: a link, a service, a group, or `consumers` and `publishers` for all of them."""
        kind = KINDS[self.kind]
        match kind.place:
            case "link":
                return self.link or ""
            case "service":
                return self.service or kind.services[0]
            case "consumers":
                return self.consumers or "consumers"
            case "publishers":
                return self.publishers or "publishers"
        return "gateway"

    @property
    def asked(self) -> dict[str, int | float | str]:
        """What it asks of the place, under the profile's own names."""
        given = {key: value for key in KINDS[self.kind].keys if (value := getattr(self, key)) is not None}
        return {key: int(value) if isinstance(value, bool) else value for key, value in given.items()}


def _table(name: str, kind: Any, keys: dict[str, tuple[Any, Any]]) -> type[Fault]:
    """A table with these keys besides those of all faults, in the order of the manual."""
    fields: dict[str, tuple[Any, Any]] = {"kind": (kind, ...), **keys}
    return create_model(name, __base__=Fault, **fields)  # type: ignore[call-overload, no-any-return]


def _of_kind(row: FaultKind) -> type[Fault]:
    keys: dict[str, tuple[Any, Any]] = {name: (takes(key), ...) for name, key in row.needs.items()}
    keys |= {name: (takes(key) | None, None) for name, key in row.may.items()}
    return _table(f"Fault of kind {row.name}", Literal[row.name], keys)


OF_KIND: dict[str, type[Fault]] = {name: _of_kind(row) for name, row in KINDS.items()}
Fault.all_keys = _table("Fault", Literal[tuple(KINDS)], {n: (takes(key) | None, None) for n, key in OWN_KEYS.items()})

if TYPE_CHECKING:
    AnyFault = Fault
else:
    AnyFault = Annotated[Union[tuple(OF_KIND.values())], Field(discriminator="kind")]  # noqa: UP007 - made at run time

_ONE: TypeAdapter[Fault] = TypeAdapter(AnyFault)


def fault_of(table: dict[str, Any]) -> Fault:
    """A fault from its table. Raises ValidationError."""
    return _ONE.validate_python(table)
