"""Does the terminal say what the results say, and how are numbers written?"""

from __future__ import annotations

import msgspec
import pytest
import sample

from loadtests.model.results import Verdict
from loadtests.report import formats
from loadtests.report.text import summary_lines


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
    assert lines[1].text.startswith("  FAIL     not_admitted<=0 calm: 1")
    assert [line.text for line in lines[2:4]] == [f"  {reason}" for reason in reasons[1:]]
    assert lines[4].text.startswith("  UNKNOWN  lost_defect<=0 calm: no samples")


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
