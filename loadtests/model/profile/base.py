"""What are the tables of a profile made of?  The kinds of their values, and how a table says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticKnownError

from loadtests.model.address import PATTERN, PATTERN_OR_SPARE, is_address
from loadtests.model.kinds import Key


def _address(text: str) -> str:
    if not is_address(text):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": PATTERN})
    return text


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Channel = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)+$", max_length=200)]
Address = Annotated[str, Field(pattern=PATTERN), AfterValidator(_address)]
AddressOrSpare = Annotated[str, Field(pattern=PATTERN_OR_SPARE), AfterValidator(_address)]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200)]  # not empty, no control characters
Gated = Annotated[str, Field(pattern=r"^[a-z0-9_]+(:[^\x00-\x1f\x7f]+)?$", max_length=100)]
# The patterns are read by Rust's regex, where ^ and $ without flags are the very ends of the text.
Seconds = Annotated[float, Field(ge=0, le=7 * 24 * 3600, allow_inf_nan=False)]
UrlPath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=200)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Table(BaseModel):
    """A table: frozen, no unknown keys, no silent conversion, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def takes(key: Key) -> Any:
    """The annotation of a key of a kind."""
    if key.of == "choice":
        return Literal[key.choices]
    plain: Any = {"whole": int, "number": float, "yes": bool, "text": Text, "address or spare": AddressOrSpare}[key.of]
    if "pattern" in key.limits:
        plain = str
    limits: dict[str, Any] = dict(key.limits)
    return Annotated[plain, Field(**limits)] if limits else plain


def refuse(problems: Iterable[str]) -> None:
    """Raise one ValueError with all problems, one `key: found ..., allowed ...` a line."""
    lines = list(problems)
    if lines:
        raise ValueError("\n".join(lines))


def quoted(value: str | None) -> str:
    """What was found, for a sentence."""
    return "nothing" if value is None else f'"{value}"'


def twice(values: list[str]) -> list[str]:
    """Values that come more than once."""
    return sorted({value for value in values if values.count(value) > 1})


def needs_of_kind(part: Table, kind: str, needs: set[str], given: set[str], may: set[str]) -> list[str]:
    """Problems of a table whose `kind` decides which keys it needs and which it may have."""
    return [f'{key}: found nothing, allowed a value, which kind "{kind}" needs' for key in sorted(needs - given)] + [
        f'{key}: found {getattr(part, key)}, allowed nothing with kind "{kind}"' for key in sorted(given - may)
    ]
