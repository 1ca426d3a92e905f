"""Can a CI server be fooled by the JUnit file?"""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest
import sample

from loadtests.model.results import Verdict
from loadtests.report.junit import render_junit

CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase", "system-out", "system-err"],
    "properties": ["property"],
    "testcase": ["skipped", "error", "failure", "system-out", "system-err"],
}
NEEDS = {
    "testsuite": {"name", "tests", "failures", "errors", "time", "timestamp", "hostname", "id", "package"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
}


def check_structure(element: ElementTree.Element) -> None:
    order = CHILDREN.get(element.tag, [])
    places = [order.index(child.tag) for child in element]
    assert places == sorted(places)
    assert NEEDS.get(element.tag, set()) <= set(element.keys())
    for child in element:
        check_structure(child)


@pytest.mark.parametrize("make", [sample.sample, sample.nothing_known])
def test_the_file_has_the_structure_of_the_common_schema(make: object) -> None:
    text = render_junit(make())  # type: ignore[operator]
    check_structure(ElementTree.fromstring(text))
    assert text == render_junit(make())  # type: ignore[operator]


def test_fail_is_a_failure_and_unknown_is_an_error() -> None:
    results = sample.sample()
    suite = ElementTree.fromstring(render_junit(results))[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == [c.name for c in results.checks]
    for check in results.checks:
        wanted = {"PASS": [], "FAIL": ["failure"]}.get(check.verdict.value, ["error"])
        assert [child.tag for child in cases[check.name]] == wanted
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("8", "2", "2")
    assert suite.get("timestamp") == "2026-01-05T09:30:12"
    assert {p.get("name"): p.get("value") for p in suite.iter("property")}["run_id"] == results.run.id


def test_each_recovery_is_told_with_the_limits_that_judge_it() -> None:
    suite = ElementTree.fromstring(render_junit(sample.sample()))[0]
    told = {p.get("name"): p.get("value") or "" for p in suite.iter("property")}
    assert told["recovery.0"].startswith("FAIL redis-cut: recovery 2.01 s")
    assert "recovery_s ≤ 1.5 s FAIL" in told["recovery.0"]
    assert "p95 > 10 s" in told["recovery.1"]


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.ABORTED, Verdict.FAIL])
def test_a_run_that_no_check_explains_is_still_not_green(verdict: Verdict) -> None:
    results = msgspec.structs.replace(sample.nothing_known(), verdict=verdict, reasons=["the guard lifted all faults"])
    suite = ElementTree.fromstring(render_junit(results))[0]
    (case,) = suite.iter("testcase")
    assert [c.tag for c in case] == ["failure" if verdict is Verdict.FAIL else "error"]
    assert "guard" in str(case[0].get("message"))


def test_control_characters_of_a_target_do_not_break_the_file() -> None:
    results = msgspec.structs.replace(sample.sample(), log=["bell \x07 and half a pair \ud800 and <tag> & 'quotes'"])
    out = ElementTree.fromstring(render_junit(results)).find(".//system-out")
    assert out is not None
    assert out.text == "bell � and half a pair � and <tag> & 'quotes'"
