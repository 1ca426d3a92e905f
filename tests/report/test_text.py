"""Does the terminal say what the results say, and how are numbers written?"""

from __future__ import annotations

import re

import msgspec
import pytest
import sample

from loadtests.model.measures import MEASURES
from loadtests.model.results import Check, Results, Verdict
from loadtests.report import formats
from loadtests.report.text import answer, summary_lines, told


def test_the_verdict_comes_first_and_every_fault_and_open_check_is_named() -> None:
    results = sample.sample()
    lines = summary_lines(results)
    text = "\n".join(line.text for line in lines)
    assert lines[0].text.startswith("FAIL")
    assert lines[0].style == "fail"
    assert all(text.count(reason) == 1 for reason in results.reasons)
    assert all(back.fault in text for back in results.recovery)
    shown = [
        line.text[11:].split(":")[0] for line in lines[1:] if line.text[2:10].strip() in {v.value for v in Verdict}
    ]
    assert shown[:4] == [c.name for c in results.checks if c.verdict is not Verdict.PASS]
    assert all("\n" not in line.text for line in lines)


def test_the_reasons_come_in_their_order_so_that_a_failure_is_read_first() -> None:
    results = sample.sample()
    late = msgspec.structs.replace(results.checks[0], name="not_admitted<=0 calm", verdict=Verdict.FAIL, summary="1")
    unknown = msgspec.structs.replace(late, name="lost_defect<=0 calm", verdict=Verdict.UNKNOWN, summary="no samples")
    reasons = ["not_admitted<=0 calm: 1", "the plan had not ended", "in consequence 1 check has too little to measure"]
    lines = summary_lines(msgspec.structs.replace(results, checks=[unknown, late], reasons=reasons))
    assert lines[2].text.startswith("  FAIL     not_admitted<=0 calm: 1")
    assert [line.text for line in lines[3:5]] == [f"  {reason}" for reason in reasons[1:]]
    assert lines[5].text.startswith("  UNKNOWN  lost_defect<=0 calm: no samples")


def test_what_a_fault_touched_that_it_should_not_is_told_and_nothing_else() -> None:
    text = [line.text for line in summary_lines(sample.sample())]
    assert text.count("  db-black-hole: stream patterns: 17 lost while it was in force") == 1
    assert not any("query symbols" in line for line in text)


def test_what_is_slow_readers_is_told_beside_each_total_that_it_is_part_of() -> None:
    results = sample.sample()
    text = "\n".join(line.text for line in summary_lines(results))
    by_slow = "by slow readers, who are expected to be"
    for start in ("lost        64,510 (of these 15,901", "late 123 (of these 77", "repeated 2 (of these 2"):
        assert f"{start} {by_slow})" in text
    assert "reordered 1, foreign" in text, "a part of 0 is not told"
    assert "(without slow readers " in text
    assert "slow readers" not in "\n".join(line.text for line in summary_lines(sample.nothing_known()))


def test_a_run_without_numbers_shows_dashes() -> None:
    lines = [line.text for line in summary_lines(sample.nothing_known())]
    assert any("owed        – = delivered – + lost –" in line for line in lines)
    assert lines[0].startswith("UNKNOWN")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "count", "0"),
        (1234567, "count", "1,234,567"),
        (0.0441, "ms", "44.1 µs"),
        (0, "ms", "0 ms"),
        (1.5, "ms", "1.50 ms"),
        (99.95, "ms", "100.0 ms"),
        (1234.5, "ms", "1,234 ms"),
        (12345, "ms", "12.3 s"),
        (0.204, "s", "0.204 s"),
        (59.99, "s", "60.0 s"),
        (754.4, "s", "12 min 34 s"),
        (7500, "s", "2 h 05 min"),
        (1, "share", "100 %"),
        (0.9999999, "share", "> 99.999 %"),
        (0.97, "share", "97.000 %"),
        (31.2, "slope", "+31.2 MB/h"),
        (-3.4, "slope", "−3.40 MB/h"),
        (None, "ms", "–"),
        (float("nan"), "ms", "–"),
    ],
)
def test_numbers_are_written_in_units_a_reader_expects(value: float | None, unit: str, text: str) -> None:
    assert formats.plain(value, unit) == text


@pytest.mark.parametrize(
    ("check", "unit", "bound"),
    [
        ("latency_p95_ms", "ms", "≤"),
        ("latency_p95_ms (plain)", "ms", "≤"),
        ("recovery_s redis-cut", "s", "≤"),
        ("growth_mb_per_h gateway", "mb_per_h", "≤"),
        ("growth_mb/gateway", "mb", "≤"),
        ("delivery_rate", "share", "≥"),
        ("received_per_s", "per_s", "≥"),
        ("clean_coverage", "share", "≥"),
        ("clean coverage", "share", "≥"),
        ("latency_p95_ms<=100 calm browsers", "ms", "≤"),
        ("delivery_rate>=0.999 calm", "share", "≥"),
        ("little is undecided", "share", "≤"),
        ("all connected at the start", "count", "≥"),
        ("lost_defect[patterns]", "count", "≤"),
    ],
)
def test_a_checks_name_says_its_unit_and_its_side(check: str, unit: str, bound: str) -> None:
    assert (formats.unit_of(check), formats.bound(check)) == (unit, bound)


def check(name: str, verdict: Verdict = Verdict.PASS, measured: float | None = 0, limit: float | None = 0) -> Check:
    summary = "none took part" if measured is None else f"{measured}"
    return Check(
        name=name, verdict=verdict, summary=summary, limit=limit, measured=measured, phases=["calm"], evidence=[]
    )


def asked(question: str, verdict: Verdict, checks: list[Check], **more: object) -> Results:
    """A run with three faults that asks something else."""
    results = sample.sample(verdict)
    back = [msgspec.structs.replace(results.recovery[0], recovery_s=s, fault=f"cut {s}", limits=[]) for s in (0.5, 1.7)]
    return msgspec.structs.replace(
        results,
        **{
            "run": msgspec.structs.replace(results.run, question=question),
            "delivery": msgspec.structs.replace(results.delivery, slow_readers=None),
            "checks": checks,
            "reasons": [f"{c.name}: {c.summary}" for c in checks if c.verdict is not Verdict.PASS],
            "faults": results.faults[:2],
            "recovery": back,
            **more,
        },
    )


STARTED = check("all connected at the start", measured=200, limit=200)
ALL = check("delivery_rate>=0.95 calm", measured=1, limit=0.95)


def test_what_passed_is_answered_by_who_got_what_and_how_fast_each_fault_was_overcome() -> None:
    said = answer(asked("Does everybody get all?", Verdict.PASS, [STARTED, ALL]))
    assert said.startswith("Yes: 200 of 200 clients got every event in calm times; each of two faults was overcome ")
    assert "within 1.70 s (limit 10 s), and every client had something fresh within " in said
    assert said.endswith(" s; lost to faults, as the limits allow: 64,297.")


def test_a_rate_below_one_is_no_every_event_and_a_client_that_did_not_come_back_is_no_every_client() -> None:
    most = check("delivery_rate>=0.95 calm", measured=0.97, limit=0.95)
    results = asked("Does everybody get all?", Verdict.PASS, [STARTED, most])
    lost = msgspec.structs.replace(results.recovery[0], consumers=sample.sample().recovery[1].consumers)
    said = answer(msgspec.structs.replace(results, recovery=[lost, results.recovery[1]]))
    assert "200 of 200 clients were served, and delivery rate 97.000 % (in calm phases, limit at least 95 %)" in said
    assert "every" not in said


def test_a_fault_without_a_time_of_recovery_is_not_said_to_be_overcome() -> None:
    results = asked("Does everybody get all?", Verdict.PASS, [STARTED, ALL])
    unknown = msgspec.structs.replace(results.recovery[0], recovery_s=None)
    said = answer(msgspec.structs.replace(results, recovery=[unknown, results.recovery[1]]))
    assert "overcome" not in said
    assert "each of two faults acted and was lifted" in said


def test_without_faults_the_latency_answers_and_slow_readers_are_named() -> None:
    slow = sample.sample().delivery
    latency = check("latency_p95_ms<=100 calm", measured=12.064, limit=100)
    results = asked("How fast?", Verdict.PASS, [STARTED, ALL, latency], faults=[], recovery=[], delivery=slow)
    assert answer(results) == (
        "Every limit held: 200 of 200 clients got every event in calm times (slow readers apart: browsers); "
        "latency p95 12.1 ms (in calm phases, limit 100 ms)."
    )


def test_what_failed_is_answered_by_the_first_broken_limit_with_its_unit_and_fault() -> None:
    broken = [
        check("recovery_s<=5 calm", Verdict.FAIL, 6.2, 5),
        check("clients_not_back<=0 calm", Verdict.FAIL, 1),
        check("late<=0 calm", Verdict.UNKNOWN, None),
    ]
    results = asked("Is it back soon?", Verdict.FAIL, broken)
    limits = sample.sample().recovery[0].limits
    results = msgspec.structs.replace(
        results, recovery=[msgspec.structs.replace(results.recovery[0], fault="redis-cut", limits=limits)]
    )
    said = "slowest recovery from a fault 6.20 s (limit 5 s), after redis-cut; 1 more limit is broken."
    assert answer(results) == f"No: {said}"
    few = asked("What then?", Verdict.FAIL, [check("query_failed<=0 all", Verdict.FAIL, 1)])
    assert answer(few) == "Not every limit held: 1 query failed (limit 0)."


def test_a_measure_that_is_not_known_has_its_cause_first_and_its_unit() -> None:
    short = msgspec.structs.replace(
        check("growth_mb_per_h<=5 calm", Verdict.UNKNOWN, 66.781, 5.0),
        summary="66.781, at most 5 allowed; too short for a slope: run longer",
    )
    results = asked("Is it?", Verdict.UNKNOWN, [short], reasons=[f"{short.name}: {short.summary}"])
    measured = "memory growth of a process 66.8 MB/h (in calm phases, limit 5 MB/h)"
    assert answer(results) == f"Not known: too short for a slope: run longer; {measured}."


def test_what_is_unknown_is_answered_by_its_cause_and_the_consequences_are_folded() -> None:
    cause = check("every kind of user took part", Verdict.UNKNOWN, None, None)
    follows = [check(f"{name}<=0 calm", Verdict.UNKNOWN, None) for name in ("late", "foreign")]
    text = "; ".join(f"{c.name}: {c.summary}" for c in follows)
    reasons = [
        f"{cause.name}: {cause.summary}",
        f"in consequence 2 checks have too little to measure: {text}",
    ]
    results = asked("Is it?", Verdict.UNKNOWN, [cause, *follows], reasons=reasons)
    assert answer(results) == "Not known: none took part."
    found = told(results)
    assert [len(reason.folded) for reason in found] == [0, 2]
    text = "\n".join(line.text for line in summary_lines(results))
    assert all(text.count(c.name) == 1 for c in follows), "each consequence is told once"
    cut = asked("Is it?", Verdict.ABORTED, [], reasons=["the plan had not ended: signal"])
    assert answer(cut) == "Not known, for the run was cut short: the plan had not ended: signal."


def test_the_terminal_says_the_answer_under_the_verdict() -> None:
    results = sample.sample()
    assert summary_lines(results)[1].text == f"  {answer(results)}"


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ("2026-11-28T11:34:38.343210+00:00", "28 November 2026, 11:34:38 UTC"),
        ("2026-01-05T09:30:12Z", "5 January 2026, 09:30:12 UTC"),
        ("2026-01-05T09:30:12", "5 January 2026, 09:30:12"),
        ("some day", "some day"),
        (None, "–"),
    ],
)
def test_dates_are_written_for_people(started: str | None, said: str) -> None:
    assert formats.when(started) == said


def test_what_acted_is_told_in_words_each_fact_once() -> None:
    found = formats.in_words(
        {"direction": "both", "latency_ms": 250.5, "added_rtt_ms": 250.5, "p99_ms": None, "killed_pid": 7, "clean": 1,
         "probe": "answer", "touched": "acted", "limit_bytes": 2000, "ping": "late", "clients_new": 2}
    )  # fmt: skip
    assert [re.sub("<[^>]+>", "", phrase) for phrase in found] == [
        "added delay 250 ms",
        "nothing of it was left after it was lifted",
        "a probe was answered after it was lifted",
        "it met traffic of the run or the target",
        "cut after 2,000 bytes",
        "ping: late",
        "clients new 2",
    ]


@pytest.mark.parametrize(("value", "unit", "text"), [(5, "s", "5 s"), (1.5, "s", "1.5 s"), (0.95, "share", "95 %"),
                                                     (0.001, "share", "0.1 %"), (100_000, "count", "100,000"),
                                                     (100, "ms", "100 ms"), (0, "count", "0")])  # fmt: skip
def test_a_limit_is_written_as_it_was_chosen(value: float, unit: str, text: str) -> None:
    assert formats.exact(value, unit) == text


def test_every_measure_has_words() -> None:
    assert set(MEASURES) <= set(formats.LABELS)


def test_each_thing_is_told_once() -> None:
    results = sample.sample()
    limited = check("loss<=0 calm", Verdict.FAIL, 3, 0)
    limited = msgspec.structs.replace(limited, summary="3, at most 0 allowed; so")
    back = msgspec.structs.replace(
        results.recovery[0],
        summary=f"{results.recovery[0].fault}: out of its limits for 1.20 s, steady 0.3 s after it was healed; late",
    )
    text = "\n".join(
        line.text for line in summary_lines(msgspec.structs.replace(results, checks=[limited], recovery=[back]))
    )
    assert "loss<=0 calm: 3; so (limit ≤ 0)" in text
    assert "out of its limits for" not in text
    assert text.count(f"{back.fault}: ") == 1
    assert "; late" in text
