"""Are medians, ratios, judgements and the page what the measured values say?  No time is measured here."""

from __future__ import annotations

import math
import string
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.document import QUOTED, Figures, from_json, merged, quoting, to_json, to_markdown
from benchmarks.experiments import EXPERIMENTS, needed
from benchmarks.figures import ClientRun, Measured, Outcome, Row, number, outcome, ratios, value_text
from benchmarks.profile_text import Load, profile_text
from benchmarks.rows import BY_KEY, ROWS
from benchmarks.slope import slope_per_hour
from loadtests.model.profile.profile import Profile

ROOT = Path(__file__).resolve().parents[2]
LESS = Row(key="a", section="s", name="n", unit="×", limit=1.25, reason="{ours} of {value} beyond {limit}, {unknown}")
MORE = Row(key="b", section="s", name="n", unit="/s", limit=100, better="more", reason="too few")
positive = st.floats(1e-3, 1e6)


def test_cost_rate_and_cpu_of_a_run() -> None:
    run = ClientRun(client="x", messages=500_000, seconds=5.0, cpu_s=2.5)
    assert (run.cpu_s_per_million, run.rate, run.cpu_percent) == (5.0, 100_000.0, 50.0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_ratios_are_taken_pair_by_pair(pairs: list[tuple[float, float]]) -> None:
    ours, other = [a for a, _ in pairs], [b for _, b in pairs]
    assert ratios(ours, other) == tuple(a / b for a, b in pairs)


def test_ratios_need_pairs() -> None:
    with pytest.raises(ValueError, match="argument"):
        ratios([1.0, 2.0], [1.0])


def test_the_median_is_judged_and_the_spread_is_kept() -> None:
    found = outcome(LESS, Measured(values=(1.4, 1.1, 1.2)), "2026-01-01")
    assert (found.value, found.low, found.high, found.repeats, found.met) == (1.2, 1.1, 1.4, 3, True)
    assert found.reason == ""
    assert value_text(found, LESS.unit) == "1.2 × (1.1 to 1.4)"


def test_a_miss_says_why_from_facts_and_a_dash_for_what_is_not_known() -> None:
    found = outcome(LESS, Measured(values=(2.0,), facts={"ours": 9.876}), "2026-01-01")
    assert found.met is False
    assert found.reason == "9.88 of 2 beyond 1.25, -"


def test_more_is_better_where_the_row_says_so() -> None:
    assert outcome(MORE, Measured(values=(99.0,)), "d").met is False
    assert outcome(MORE, Measured(values=(100.0,)), "d").met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = outcome(LESS, Measured(missing="no C compiler here"), "d")
    assert (found.value, found.met, found.reason) == (None, None, "no C compiler here")


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (1234567.0, "1,234,567"), (123.4, "123"), (1.2345, "1.23")])
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


# -- the table


def test_every_row_has_a_target_or_is_only_told_and_a_reason_for_a_miss() -> None:
    assert len(BY_KEY) == len(ROWS)
    for row in ROWS:
        assert row.limit is None or len(row.reason) > 20, row.key
        assert row.target == "-" or row.target[0] in "≤≥", row.key


def test_a_reason_uses_names_that_may_stand_in_it() -> None:
    for row in ROWS:
        fields = {name for _, name, _, _ in string.Formatter().parse(row.reason) if name is not None}
        assert all(name.isidentifier() for name in fields), row.key


def test_every_row_is_measured_by_one_experiment() -> None:
    measured = [key for experiment in EXPERIMENTS for key in experiment.rows]
    assert sorted(measured) == sorted(BY_KEY)


def test_one_row_needs_one_experiment() -> None:
    assert [e.name for e in needed(["memory-stream"])] == ["memory"]


def test_the_whole_table_takes_at_most_twelve_minutes_by_its_own_estimate() -> None:
    keys = [row.key for row in ROWS if not row.optional]
    assert sum(experiment.about_s for experiment in needed(keys)) <= 720


# -- the page

keys = st.sampled_from(sorted(BY_KEY))
texts = st.text(st.characters(codec="utf-8", exclude_characters="|\n\r"), max_size=40)
outcomes = st.builds(
    lambda key, values, detail: outcome(BY_KEY[key], Measured(values=tuple(values), detail=detail), "2026-01-02"),
    keys,
    st.lists(positive, max_size=3),
    texts,
)
figures = st.builds(
    lambda found: Figures(machine="two cores", versions="Python", outcomes=list({o.key: o for o in found}.values())),
    st.lists(outcomes, max_size=8),
)


@settings(max_examples=25, deadline=None)
@given(figures)
def test_what_is_written_is_read_again(found: Figures) -> None:
    assert from_json(to_json(found)) == found
    assert to_json(from_json(to_json(found))) == to_json(found)


@settings(max_examples=25, deadline=None)
@given(figures)
def test_every_row_stands_on_the_page_with_its_target_and_value(found: Figures) -> None:
    lines = to_markdown(found).splitlines()
    for one in found.outcomes:
        row = BY_KEY[one.key]
        cells = [line for line in lines if line.startswith(f"| {row.name} | {row.target} |")]
        assert len(cells) == 1
        assert f"| {value_text(one, row.unit)} |" in cells[0]


@settings(max_examples=25, deadline=None)
@given(figures, figures)
def test_rows_measured_anew_replace_old_ones_and_keep_the_others(old: Figures, new: Figures) -> None:
    both = merged(old, new)
    found = {o.key: o for o in both.outcomes}
    assert found == {o.key: o for o in old.outcomes} | {o.key: o for o in new.outcomes}
    order = [row.key for row in ROWS]
    assert [o.key for o in both.outcomes] == sorted(found, key=order.index)


def test_figures_of_another_machine_are_not_kept() -> None:
    def one(machine: str, key: str) -> Figures:
        made = outcome(BY_KEY[key], Measured(values=(1.0,)), "2026-01-02")
        return Figures(machine=machine, versions="v", outcomes=[made])

    assert [o.key for o in merged(one("a", "flat"), one("b", "ceiling")).outcomes] == ["ceiling"]


def test_the_page_names_misses_with_their_reasons() -> None:
    miss = Outcome(
        key="flat", date="2026-01-02", value=9.0, low=9.0, high=9.0, repeats=1, detail="d", met=False, reason="because"
    )
    page = to_markdown(Figures(machine="m", versions="v", outcomes=[miss]))
    assert "| 9 × | no |" in page
    assert "d. because." in page


def test_the_readme_quotes_the_stored_figures_and_nothing_else_of_it_changes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    stored = from_json((ROOT / "docs" / "performance.json").read_bytes())
    assert quoting(readme, stored) == readme
    for key in QUOTED:
        assert readme.count(f"| {BY_KEY[key].name} |") == 1
    assert quoting("no marks", stored) == "no marks"
    empty = quoting(readme, Figures(machine="m", versions="v"))
    assert len(readme.splitlines()) - len(empty.splitlines()) == len(QUOTED)
    assert quoting(empty, stored) == readme


# -- profiles and slopes


@pytest.mark.parametrize(
    "load",
    [
        Load(consumers=1000, rate_per_s=100),
        Load(consumers=10, rate_per_s=5, to_per_s=50, transport="socketio", tls=True),
        Load(consumers=1, rate_per_s=1, side='{ kind = "constant", rate_per_s = 5 }', side_publishers=2),
        Load(consumers=5, rate_per_s=20, streams=200),
    ],
)
def test_a_load_is_a_profile(load: Load) -> None:
    text = profile_text(load, redis="127.0.0.1:1", gateway="127.0.0.1:2")
    profile = Profile.model_validate(tomllib.loads(text))
    assert sum(group.count for group in profile.consumers) == load.consumers
    feed = profile.publishers[0]
    rate = feed.shape.rate_per_s if load.to_per_s is None else feed.shape.from_per_s
    assert rate is not None
    assert math.isclose(rate * feed.count, load.rate_per_s)


def test_a_cut_is_a_fault_of_the_clients_link() -> None:
    load = Load(consumers=5, rate_per_s=20, seconds=32, cut_s=10)
    text = profile_text(load, redis="127.0.0.1:1", gateway="127.0.0.1:2", toxiproxy="127.0.0.1:3", proxy="bench")
    (fault,) = Profile.model_validate(tomllib.loads(text)).faults
    assert (fault.kind, fault.link, fault.for_s) == ("down", "client-gateway", 10)


@settings(max_examples=25, deadline=None)
@given(st.floats(-50, 50), st.floats(10, 500))
def test_the_slope_of_a_line_is_its_slope(per_hour: float, start: float) -> None:
    found = slope_per_hour([(second, start + per_hour * second / 3600) for second in range(600)])
    assert found is not None
    assert all(math.isclose(value, per_hour, abs_tol=1e-6) for value in found)


def test_too_few_readings_have_no_slope() -> None:
    assert slope_per_hour([(second, 1.0) for second in range(60)]) is None


def test_the_warm_up_does_not_count() -> None:
    readings = [(second, min(second, 200) * 1.0) for second in range(1000)]
    assert slope_per_hour(readings) == (0.0, 0.0, 0.0)
