"""What does a CI server see?  One testcase per check; what is UNKNOWN or ABORTED is an error, never a pass.

The elements stand in the order that the common JUnit schema demands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from loadtests.model.results import Check, Results, Verdict
from loadtests.report.formats import bound, plain, recovery_line, unit_of

_NOT_XML = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
_NO_TIME = "1970-01-01T00:00:00"
"""The schema demands a time; this one says that the run's start is not known."""
_COUNTS = {"tests": "testcase", "failures": "failure", "errors": "error"}
"""Totals of a testsuite -> the elements that they count."""


def render_junit(results: Results) -> str:
    """`junit.xml` of a run; holds no time but the run's start, and equal Results give equal bytes."""
    run = results.run
    checks = list(results.checks)
    if all(c.verdict is not results.verdict for c in checks):
        checks.append(of_the_run(results.verdict, results.reasons))
    duration = "0" if run.duration_s is None else repr(run.duration_s)
    top = ElementTree.Element("testsuites", {"name": "tickstorm"})
    suite = suite_element(top, 0, run.profile, run.started_at or "", _properties(results))
    for check in checks:
        add_case(suite, run.profile, check)
    ElementTree.SubElement(suite, "system-out").text = "\n".join(results.log)
    ElementTree.SubElement(suite, "system-err").text = "\n".join(results.harness.trouble)
    for element in (top, suite):
        element.set("time", duration)
    return document(top)


def suite_element(
    top: ElementTree.Element, index: int, name: str, started_at: str, properties: Mapping[str, str]
) -> ElementTree.Element:
    """A testsuite with its properties; `document` counts its cases, and its `time` is set by whoever knows it."""
    started = _TIME.match(started_at)
    suite = ElementTree.SubElement(
        top,
        "testsuite",
        {
            "id": str(index),
            "package": "tickstorm",
            "name": name,
            **dict.fromkeys(_COUNTS, "0"),
            "time": "0",
            "skipped": "0",
            "timestamp": started.group() if started else _NO_TIME,
            "hostname": "localhost",
        },
    )
    inside = ElementTree.SubElement(suite, "properties")
    for key, value in properties.items():
        ElementTree.SubElement(inside, "property", {"name": key, "value": value})
    return suite


def document(top: ElementTree.Element) -> str:
    """The whole file: with the counts of each testsuite and their sums, and without what XML cannot hold."""
    for suite in top:
        for name, tag in _COUNTS.items():
            suite.set(name, str(len(list(suite.iter(tag)))))
        suite.set("skipped", str(len(list(suite.iter("skipped")))))
    time = top.attrib.pop("time", "0")
    for name in _COUNTS:
        top.set(name, str(sum(int(suite.get(name, "0")) for suite in top)))
    top.set("time", time)
    for element in top.iter():
        element.attrib = {name: _clean(value) for name, value in element.attrib.items()}
        element.text = element.text and _clean(element.text)
    ElementTree.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, encoding="unicode") + "\n"


def of_the_run(verdict: Verdict, reasons: Sequence[str]) -> Check:
    """The run's own verdict, where no check carries it: a run cut short must not look green."""
    return condition("verdict", verdict, "; ".join(reasons) or f"the run is {verdict.value}", reasons)


def condition(name: str, verdict: Verdict, summary: str, evidence: Sequence[str] = ()) -> Check:
    """A check that measures nothing: something holds or does not."""
    return Check(
        name=name, verdict=verdict, summary=summary, limit=None, measured=None, phases=[], evidence=list(evidence)
    )


def _properties(results: Results) -> dict[str, str]:
    run = results.run
    return {
        "run_id": run.id,
        "profile": run.profile,
        "profile_sha256": run.profile_sha256,
        "seed": str(run.seed),
        "verdict": results.verdict.value,
        "exit_status": str(results.verdict.exit_status),
        "machine": run.machine,
        **{f"version.{name}": version for name, version in sorted(run.versions.items())},
        **{
            f"recovery.{number}": f"{(back.judged or back.verdict).value} {recovery_line(back)}"
            for number, back in enumerate(results.recovery)
        },
    }


def add_case(suite: ElementTree.Element, profile: str, check: Check, took_s: float = 0) -> None:
    """The testcase of a check; judging takes no time that is worth telling."""
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": f"tickstorm.{profile}", "name": check.name, "time": f"{took_s:.3g}"}
    )
    if check.verdict is Verdict.PASS:
        return
    kind = "failure" if check.verdict is Verdict.FAIL else "error"
    found = ElementTree.SubElement(case, kind, {"type": check.verdict.value, "message": check.summary})
    unit = unit_of(check.name)
    facts = [
        check.summary,
        f"measured {plain(check.measured, unit)}, limit {bound(check.name)} {plain(check.limit, unit)}",
    ]
    if check.phases:
        facts.append("phases " + ", ".join(check.phases))
    found.text = "\n".join([*facts, *check.evidence])


def _clean(text: str) -> str:
    """XML cannot hold most control characters, not even escaped; the others are none for a terminal either."""
    return _NOT_XML.sub("�", text)
