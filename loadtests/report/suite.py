"""What came of several profiles, one after another?  `Suite` is the contract of `suite.json`; the rest shows it.

One testsuite per category, a testcase for each check of a profile and one for its playing to the end, which has the
time that it took. Nothing here computes a verdict of a check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from xml.etree import ElementTree

import msgspec

from loadtests.model.results import Check, Verdict, worst
from loadtests.report.drawing import package_text
from loadtests.report.formats import bound, markdown_cell, plain, unit_of
from loadtests.report.html import environment
from loadtests.report.junit import add_case, condition, document, of_the_run, suite_element

SCHEMA = "tickstorm-suite-1"
SLOWEST = 10
"""So many of the checks that measured a time are shown, the longest time first."""
_MS = {"ms": 1.0, "s": 1000.0}


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One profile of a suite, and what came of it."""

    profile: str
    question: str
    category: str  # under which its checks stand
    planned_s: float  # from connecting to the end of the drain, by the profile
    took_s: float | None = None  # with starting and judging; None: it was not played
    verdict: Verdict = Verdict.UNKNOWN
    why: str = ""  # why it was not played, or did not come to its end
    run: str = ""  # id of the run; empty where there is none
    report: str = ""  # the page to look at, as the suite's folder names it
    reasons: list[str] = []
    checks: list[Check] = []

    @property
    def passed(self) -> int:
        """Checks that passed."""
        return sum(check.verdict is Verdict.PASS for check in self.checks)


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and each profile in the order in which it was played."""

    schema: str = SCHEMA
    id: str
    started_at: str  # ISO 8601
    asked: str  # in words of the command line
    stopped: bool = False  # by Ctrl-C
    pending: dict[str, str] = {}  # a word that was asked for and has no profile yet -> what is missing
    played: list[Played]

    @property
    def took_s(self) -> float:
        """Seconds of all profiles together."""
        return sum(one.took_s or 0.0 for one in self.played)

    @property
    def verdict(self) -> Verdict:
        """The worst of those that were played; what was asked for and is not there is UNKNOWN."""
        found = [one.verdict for one in self.played if one.took_s is not None]
        return worst(found + [Verdict.UNKNOWN] * bool(self.pending) + [Verdict.ABORTED] * self.stopped)


class Slow(NamedTuple):
    """A check that measured a time."""

    profile: str
    check: Check
    unit: str
    ms: float


def slowest(played: Iterable[Played]) -> list[Slow]:
    """The checks that measured the longest times, the longest first."""
    found = [
        Slow(one.profile, check, unit, check.measured * _MS[unit])
        for one in played
        for check in one.checks
        if (unit := unit_of(check.name)) in _MS and check.measured is not None
    ]
    return sorted(found, key=lambda slow: (-slow.ms, slow.profile, slow.check.name))[:SLOWEST]


def to_json(suite: Suite) -> bytes:
    """`suite.json`, with the verdict."""
    told = msgspec.to_builtins(suite) | {"verdict": suite.verdict.value, "exit_status": suite.verdict.exit_status}
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def render_junit(suite: Suite) -> str:
    """`junit.xml`: what is UNKNOWN, ABORTED or hung is an error, what was not played is skipped, never a pass."""
    top = ElementTree.Element("testsuites", {"name": f"tickstorm {suite.asked}"})
    names = [*dict.fromkeys(one.category for one in suite.played), *suite.pending]
    for index, name in enumerate(names):
        own = [one for one in suite.played if one.category == name]
        element = suite_element(top, index, name, suite.started_at, {"suite_id": suite.id, "verdict": ""})
        for one in own:
            _cases(element, one)
        if name in suite.pending:
            add_case(element, name, condition("a profile for it", Verdict.UNKNOWN, _missing(suite.pending[name])))
        element.set("time", f"{sum(one.took_s or 0.0 for one in own):.3f}")
        verdicts = [one.verdict for one in own if one.took_s is not None]
        element[0][1].set("value", worst(verdicts).value)
        ElementTree.SubElement(element, "system-out").text = "\n".join(f"{one.profile}: {one.run}" for one in own)
        ElementTree.SubElement(element, "system-err").text = "\n".join(f"{o.profile}: {o.why}" for o in own if o.why)
    top.set("time", f"{suite.took_s:.3f}")
    return document(top)


def _cases(element: ElementTree.Element, one: Played) -> None:
    if one.took_s is None:
        case = ElementTree.SubElement(
            element, "testcase", {"classname": f"tickstorm.{one.profile}", "name": "played to its end", "time": "0"}
        )
        ElementTree.SubElement(case, "skipped", {"message": one.why})
        return
    ended = Verdict.UNKNOWN if one.why else Verdict.PASS
    add_case(element, one.profile, condition("played to its end", ended, one.why), one.took_s)
    for check in one.checks:
        add_case(element, one.profile, check)
    if not one.why and all(check.verdict is not one.verdict for check in one.checks):
        add_case(element, one.profile, of_the_run(one.verdict, one.reasons))


def _missing(what: str) -> str:
    return f"no shipped profile plays {what} yet"


def pending_line(word: str, what: str) -> str:
    """A word without a profile, in words."""
    return f"pending: {word}: {_missing(what)}"


def render_index(suite: Suite) -> str:
    """`index.html`: one small page that opens offline."""
    return (
        environment()
        .get_template("suite.html.j2")
        .render(
            s=suite,
            slowest=slowest(suite.played),
            pending_line=pending_line,
            broke=[(one, check) for one in suite.played for check in one.checks if check.verdict is not Verdict.PASS],
            unit_of=unit_of,
            bound=bound,
            css=package_text("theme.css"),
            scripts=[package_text(name) for name in ("plots.js", "reading.js")],
        )
    )


def summary_markdown(suite: Suite) -> str:
    """A table for a job's page or a pull request."""
    rows = [
        f"### {suite.verdict.value}: tickstorm {suite.asked}",
        "",
        "| profile | verdict | checks | s | why |",
        "|---|---|---|---|---|",
    ]
    for one in suite.played:
        took = "-" if one.took_s is None else f"{one.took_s:.0f}"
        why = markdown_cell(one.why or "; ".join(one.reasons[:2]))
        verdict = "not played" if one.took_s is None else one.verdict.value
        rows.append(f"| {one.profile} | {verdict} | {one.passed} of {len(one.checks)} | {took} | {why} |")
    rows += [f"| {word} | pending | 0 of 0 | - | {_missing(what)} |" for word, what in suite.pending.items()]
    return "\n".join(rows) + "\n"


def slow_line(slow: Slow) -> str:
    """One of the slowest checks, for the terminal."""
    check = slow.check
    limit = "no limit" if check.limit is None else f"limit {bound(check.name)} {plain(check.limit, slow.unit)}"
    return f"  {plain(check.measured, slow.unit):>10}  {slow.profile}  {check.name}  ({limit})"
