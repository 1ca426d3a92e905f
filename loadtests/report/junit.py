"""What does a CI server see?  One testcase per check; what is UNKNOWN or ABORTED is an error, never a pass.

The elements stand in the order that the common JUnit schema demands.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from loadtests.model.results import Check, Results, Verdict
from loadtests.report.formats import bound, plain, recovery_line, unit_of

_NOT_XML = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
_NO_TIME = "1970-01-01T00:00:00"
"""The schema demands a time; this one says that the run's start is not known."""


def render_junit(results: Results) -> str:
    """`junit.xml` of a run; holds no time but the run's start, and equal Results give equal bytes."""
    run = results.run
    checks = list(results.checks)
    if all(c.verdict is not results.verdict for c in checks):
        checks.append(_of_the_run(results))
    failures = sum(c.verdict is Verdict.FAIL for c in checks)
    errors = sum(c.verdict in (Verdict.UNKNOWN, Verdict.ABORTED) for c in checks)
    duration = "0" if run.duration_s is None else repr(run.duration_s)
    totals = {"tests": str(len(checks)), "failures": str(failures), "errors": str(errors), "time": duration}
    started = _TIME.match(run.started_at or "")
    top = ElementTree.Element("testsuites", {"name": "tickstorm", **totals})
    suite = ElementTree.SubElement(
        top,
        "testsuite",
        {
            "id": "0",
            "package": "tickstorm",
            "name": run.profile,
            **totals,
            "skipped": "0",
            "timestamp": started.group() if started else _NO_TIME,
            "hostname": "localhost",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(results).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": value})
    for check in checks:
        _testcase(suite, run.profile, check)
    ElementTree.SubElement(suite, "system-out").text = "\n".join(results.log)
    ElementTree.SubElement(suite, "system-err").text = "\n".join(results.harness.trouble)
    for element in top.iter():
        element.attrib = {name: _clean(value) for name, value in element.attrib.items()}
        element.text = element.text and _clean(element.text)
    ElementTree.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(top, encoding="unicode") + "\n"


def _of_the_run(results: Results) -> Check:
    """The run's own verdict, where no check carries it: a run cut short must not look green."""
    return Check(
        name="verdict",
        verdict=results.verdict,
        summary="; ".join(results.reasons) or f"the run is {results.verdict.value}",
        limit=None,
        measured=None,
        phases=[],
        evidence=list(results.reasons),
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


def _testcase(suite: ElementTree.Element, profile: str, check: Check) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": f"tickstorm.{profile}", "name": check.name, "time": "0"}
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
