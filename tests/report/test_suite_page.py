"""What do the page and the JUnit file of a suite show?  Each profile once, what broke, the slowest checks."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import pytest
from test_junit import check_structure

from loadtests.model.results import Check, Verdict
from loadtests.report.suite import (
    SLOWEST,
    Played,
    Suite,
    render_index,
    render_junit,
    slow_line,
    slowest,
    summary_markdown,
    to_json,
)

HOSTILE = '<script>alert("1")</script>\x1b[31m|\n'


def check(
    name: str, verdict: Verdict = Verdict.PASS, measured: float | None = None, limit: float | None = None
) -> Check:
    return Check(name=name, verdict=verdict, summary=HOSTILE, limit=limit, measured=measured, phases=[], evidence=[])


def played(name: str, verdict: Verdict = Verdict.PASS, **more: object) -> Played:
    fields: dict[str, object] = {"question": "Does it hold?", "category": "redis", "planned_s": 30.0, "took_s": 33.3}
    fields |= {"run": f"r-{name}", "checks": [check("lost_defect<=0 calm", verdict)]} | more
    return Played(profile=name, verdict=verdict, **fields)  # type: ignore[arg-type]


SUITE = Suite(
    id="suite-1",
    started_at="2026-01-05T09:30:12.000+00:00",
    asked="--stage smoke",
    pending={"etf_universe": "events of ETF universes"},
    played=[
        played("good", report="../r-good/report.html"),
        played("bad", Verdict.FAIL, category="gateway", reasons=[HOSTILE]),
        played("gone", Verdict.UNKNOWN, why="hung: not over after 9 s, and ended", checks=[], run=""),
        played("cut", Verdict.ABORTED, checks=[check("late<=0 calm")]),
        played("left", Verdict.UNKNOWN, took_s=None, why="--fail-fast: bad is FAIL", checks=[]),
    ],
)


@pytest.mark.parametrize(
    ("profiles", "more", "wanted"),
    [
        (["good"], {}, Verdict.UNKNOWN),  # a pending word
        (["good"], {"pending": {}}, Verdict.PASS),
        (["good", "left"], {"pending": {}}, Verdict.PASS),
        (["good"], {"pending": {}, "stopped": True}, Verdict.ABORTED),
        (["good", "gone"], {"pending": {}}, Verdict.UNKNOWN),
        (["gone", "cut"], {}, Verdict.ABORTED),
        (["cut", "bad", "gone"], {}, Verdict.FAIL),
        ([], {"pending": {}}, Verdict.UNKNOWN),
    ],
)
def test_the_verdict_is_the_worst(profiles: list[str], more: dict[str, object], wanted: Verdict) -> None:
    own = [one for one in SUITE.played if one.profile in profiles]
    suite = msgspec.structs.replace(SUITE, played=own, **more)
    assert suite.verdict is wanted
    told = json.loads(to_json(suite))
    assert (told["verdict"], told["exit_status"], told["schema"]) == (wanted, wanted.exit_status, "tickstorm-suite-1")


def test_the_junit_file_has_its_structure_and_counts() -> None:
    text = render_junit(SUITE)
    top = ElementTree.fromstring(text)
    check_structure(top)
    assert text == render_junit(SUITE)
    assert [suite.get("name") for suite in top] == ["redis", "gateway", "etf_universe"]
    redis, gateway, pending = top
    # good: played, check; gone: played; cut: played, check, verdict; left: skipped
    assert (redis.get("tests"), redis.get("errors"), redis.get("failures"), redis.get("skipped")) == (
        "7",
        "2",
        "0",
        "1",
    )
    assert (gateway.get("tests"), gateway.get("failures")) == ("2", "1")
    assert (pending.get("tests"), pending.get("errors")) == ("1", "1")
    assert (top.get("tests"), top.get("errors"), top.get("failures")) == ("10", "3", "1")
    verdicts = {suite.get("name"): suite[0][1].get("value") for suite in top}
    assert verdicts == {"redis": "ABORTED", "gateway": "FAIL", "etf_universe": "UNKNOWN"}


def test_the_slowest_are_those_that_measured_the_longest_times_whatever_their_unit() -> None:
    checks = [check(f"latency_p95_ms<={n} calm", measured=float(n), limit=float(n)) for n in range(1, 12)]
    checks += [check("recovery_s<=5 calm", measured=2.0, limit=5.0), check("lost_defect<=0 calm", measured=1e9)]
    found = slowest([played("one", checks=checks)])
    assert len(found) == SLOWEST
    assert [slow.check.measured for slow in found[:2]] == [2.0, 11.0]
    assert slow_line(found[0]).split() == ["2.00", "s", "one", "recovery_s<=5", "calm", "(limit", "≤", "5.00", "s)"]
    assert slowest([played("none", checks=[])]) == []


def test_the_page_shows_each_profile_and_no_text_of_others_as_markup() -> None:
    page = render_index(SUITE)
    assert page == render_index(SUITE)
    assert '<a href="../r-good/report.html">good</a>' in page
    assert "hung: not over after 9 s, and ended" in page
    assert "4 of 5 profiles played, 2 of 3 checks passed." in page
    assert "pending: etf_universe: no shipped profile plays events of ETF universes yet" in page
    assert "alert(" in page
    assert "<script>alert" not in page
    assert "http" not in page.partition("<script>")[0].replace("http-equiv", "")


def test_the_summary_is_a_table_that_no_text_breaks() -> None:
    lines = summary_markdown(SUITE).splitlines()
    assert lines[0] == "### FAIL: tickstorm --stage smoke"
    rows = [line for line in lines if line.startswith("| ")][1:]
    assert len(rows) == 6
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows)
    assert "<script>" not in "".join(rows)
