"""Does reading a profile keep what the file says, apply what was set, and refuse with every problem at once?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.model.errors import BadInput
from loadtests.model.profile.reading import Loaded, read_effective, read_profile

TEXT = """
name = "x"
question = "Does it hold at all?"
[run]
duration_s = 60
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 5
keys = { pattern = ["Doji"] }
[[publishers]]
name = "p"
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 10 }
[[consumers]]
name = "plain"
count = 5
[[consumers]]
name = "doji-watchers"
count = 5
[[faults]]
name = "cut"
kind = "down"
link = "gateway-redis"
at_s = 3
for_s = 1
[[thresholds]]
measure = "lost_defect"
at_most = 0
[[thresholds]]
measure = "recovery_s"
at_most = 5
"""
EXTERNAL = TEXT + '[target]\nkind = "external"\nredis = "r:1"\ngateway = "g:2"\ntoxiproxy = "t:3"\n'


def read(text: str | bytes = TEXT, **given: object) -> Loaded:
    return read_profile(text, file="x.toml", **given)  # type: ignore[arg-type]


def refused(text: str | bytes = TEXT, **given: object) -> list[str]:
    with pytest.raises(BadInput) as caught:
        read(text, **given)
    return caught.value.problems


def row(loaded: Loaded, key: str) -> tuple[str, str, bool]:
    found = loaded.effective
    index = found.key.index(key)
    return found.value[index], found.source[index], found.relaxed[index]


def test_a_file_alone() -> None:
    loaded = read()
    assert row(loaded, "run.duration_s") == ("60.0", "profile", False)
    assert row(loaded, "run.warm_up_s") == ("3.0", "default", False)
    assert not any(loaded.effective.relaxed)


def test_the_frozen_text_reads_back_the_same() -> None:
    loaded = read(sets=['question=Is "quoted" text with \\ and ünï\x7f kept?'])
    again = read_profile(loaded.text, file="profile.toml")
    assert read_effective(loaded.text) == loaded.profile
    assert again.text == loaded.text
    assert again.sha256 == loaded.sha256


def test_equal_profiles_have_equal_text_however_they_came_about() -> None:
    assert read(sets=["run.warm_up_s=5"]).sha256 == read(TEXT.replace("[run]", "[run]\nwarm_up_s = 5")).sha256


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "found an empty file"),
        ("  \n", "found an empty file"),
        (b'name = "x"\nq = "\xff"\n', "line 2: found bytes that are not UTF-8"),
        (b"\x7fELF\0\1\2", "found binary data"),
        ("name = 'x'\nquestion = \n", "line 2"),
        ("a = 1\na = 2\n", "line 2"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "no valid TOML"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(data: str | bytes, words: str) -> None:
    problems = refused(data)
    assert len(problems) == 1
    assert problems[0].startswith("x.toml: ")
    assert words in problems[0]


def test_all_problems_come_at_once_those_between_tables_too() -> None:
    wrong = (
        TEXT.replace("duration_s = 60", "duration_s = -60\nwarmup_s = 3")
        .replace('link = "gateway-redis"', 'link = "gateway-reds"\nlatency_ms = 4')
        .replace("count = 5", 'count = "five"', 1)
        .replace("rate_per_s", "rat_per_s")
    )
    problems = refused(wrong, sets=["thresholds.7.at_most=1", "thresholds[0].group=zz"], seed=-1)
    text = "\n".join(problems)
    for words in (
        "x.toml: run.duration_s: found -60, allowed a number above 0 to 604,800",
        "x.toml: run.warmup_s: found an unknown key, allowed one of duration_s, warm_up_s",
        'did you mean "warm_up_s"?',
        'x.toml: consumers[0].count: found "five", allowed a whole number from 1 to 100,000',
        'x.toml: faults[0].latency_ms: found 4, allowed nothing with kind "down"',
        'x.toml: faults[0].link: found "gateway-reds", allowed one of',
        "x.toml: publishers[0].shape.rat_per_s: found an unknown key",
        '--set thresholds.7.at_most: thresholds: found no item "7", allowed an index from 0 to 1',
        '--set thresholds[0].group: thresholds[0].group: found "zz", allowed one of "plain", "doji-watchers"',
        "--seed: seed: found -1",
    ):
        assert words in text
    assert len(problems) == 9


def test_a_choice_and_a_wrong_table() -> None:
    problems = refused(TEXT.replace('kind = "down"', 'kind = "donw"').replace("[[consumers]]", "[consumers]", 1))
    assert len(problems) == 1  # TOML itself: a table and a list of tables of one name
    assert "x.toml: found no valid TOML" in problems[0]
    problems = refused(TEXT.replace('kind = "down"', 'kind = "donw"').replace("[run]\nduration_s = 60", "run = 60"))
    assert 'x.toml: faults[0].kind: found "donw", allowed one of "latency", "bandwidth", "slicer"' in problems[1]
    assert "allowed a table with keys of duration_s" in problems[0]


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("run.duration_s=70", "run.duration_s", "70.0"),
        ("consumers.plain.count=50", "consumers[0].count", "50"),
        ("consumers[1].count=50", "consumers[1].count", "50"),
        ("consumers.1.count=50", "consumers[1].count", "50"),
        ("consumers.doji-watchers.transport=socketio", "consumers[1].transport", '"socketio"'),
        ('consumers.plain.transport="socketio"', "consumers[0].transport", '"socketio"'),
        ("faults.cut.for_s=2", "faults[0].for_s", "2.0"),
        ("faults[cut].for_s=2", "faults[0].for_s", "2.0"),
        ("thresholds[0].at_most=3", "thresholds[0].at_most", "3.0"),
        ("steady.hold_s = 2", "steady.hold_s", "2.0"),
        ("publishers.p.shape.rate_per_s=20", "publishers[0].shape.rate_per_s", "20.0"),
        ("families.patterns.keys.pattern=['A', 'B']", "families[0].keys.pattern", '["A", "B"]'),
        ("consumers.plain.expect_slow=true", "consumers[0].expect_slow", "true"),
        (
            "families.patterns.path[0]=producer-redis",
            "families[0].path",
            '["producer-redis", "gateway-redis", "client-gateway"]',
        ),
    ],
)
def test_a_setting_finds_its_place(setting: str, key: str, value: str) -> None:
    loaded = read(sets=[setting])
    got, source, _ = row(loaded, key)
    assert got == value
    assert source == f"--set {setting.partition('=')[0].strip()}" or key.endswith("path")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("run.duration=3", 'did you mean "duration_s"?'),
        ("rum.duration_s=3", 'did you mean "run"?'),
        ("consumers.plane.count=3", 'found no item "plane", allowed an index from 0 to 1, or a name of plain'),
        ("consumers[2].count=3", 'found no item "2"'),
        ("run.duration_s.x=3", "found a key below run.duration_s"),
        ("run.duration_s", "found no key=value"),
        ("=3", "found no key=value"),
        ("run.duration_s=", "found no value"),
        ("run.duration_s=[3", 'found "[3", allowed a TOML value'),
        ("run.duration_s=3\nseed = 4", "found a line break"),
        ("run.duration_s=soon", 'found "soon", allowed a number above 0'),
        ("question=\udcff\udcff\udcff\udcff\udcff\udcff\udcff\udcff\udcff\udcff", "not UTF-8"),
        ("families.patterns.keys.colour=['x']", "found an unknown key, allowed one of pattern, symbol, user, job"),
        ("run=3", "allowed a table"),
    ],
)
def test_a_setting_without_a_place_is_a_problem(setting: str, words: str) -> None:
    problems = refused(sets=[setting])
    assert len(problems) == 1
    assert words in problems[0]
    assert problems[0].startswith("--set")


def test_later_sources_outrank_earlier_ones() -> None:
    environment = {"TICKSTORM_SET_RUN__DURATION_S": "70", "TICKSTORM_SET_CONSUMERS__DOJI_WATCHERS__COUNT": "7"}
    loaded = read(environment=environment, sets=["run.duration_s=80", "run.duration_s=90"], seed=9)
    assert row(loaded, "run.duration_s")[:2] == ("90.0", "--set run.duration_s")
    assert row(loaded, "consumers[1].count")[:2] == ("7", "environment TICKSTORM_SET_CONSUMERS__DOJI_WATCHERS__COUNT")
    assert row(loaded, "seed")[:2] == ("9", "--seed")


def test_an_unknown_place_in_the_environment_is_a_problem() -> None:
    problems = refused(environment={"TICKSTORM_SET_RUN__DURATIONS": "70", "TICKSTORM_SET_RUN__WARM_UP_S": ""})
    assert len(problems) == 1
    assert problems[0].startswith("environment TICKSTORM_SET_RUN__DURATIONS: run.durations: found an unknown key")


def test_the_sources_variables_name_an_external_target() -> None:
    environment = {
        "TEST_REDIS_HOST": "redis.test",
        "TEST_REDIS_PORT": "6390",
        "TEST_DB_HOST": "db.test",
        "TEST_DB_NAME": "other",
        "TEST_DB_USER": "writer",
    }
    target = read(EXTERNAL, environment=environment).profile.target
    assert (target.redis, target.postgres, target.database, target.write_user) == (
        "redis.test:6390",
        "db.test:5432",
        "other",
        "writer",
    )
    assert read(EXTERNAL, environment={"TEST_REDIS_PORT": "7"}).profile.target.redis == "r:7"
    assert read(EXTERNAL, environment=environment, sets=["target.redis=s:9"]).profile.target.redis == "s:9"


def test_a_wrong_port_in_the_environment_names_the_variable() -> None:
    assert refused(EXTERNAL, environment={"TEST_REDIS_PORT": "many"})[0].startswith(
        "environment TEST_REDIS_PORT: target.redis"
    )


def test_the_local_target_does_not_use_the_sources_variables_and_says_so() -> None:
    loaded = read(environment={"TEST_REDIS_HOST": "redis.test"})
    assert loaded.profile.target.redis is None
    assert "not used" in row(loaded, "TEST_REDIS_HOST")[0]


def test_a_password_is_noted_and_never_kept() -> None:
    loaded = read(EXTERNAL, environment={"TEST_DB_PASSWORD": "s3cret-word"})
    assert row(loaded, "TEST_DB_PASSWORD")[0] == '"set"'
    assert "s3cret-word" not in loaded.text + repr(loaded.effective) + repr(loaded.profile)


@pytest.mark.parametrize(
    ("setting", "relaxed"),
    [
        ("thresholds[0].at_most=1", True),
        ("thresholds[1].at_most=4", False),
        ("thresholds[1].at_most=5", False),
        ("thresholds[1].at_most=5.1", True),
        ('thresholds[0].phases=["recovery"]', True),
        ("thresholds[0].measure=lost_total", True),
        ("steady.delivery_min=0.9", True),
        ("steady.delivery_min=0.99", False),
        ("recovery.limit_s=31", True),
        ("recovery.limit_s=20", False),
        ("faults.cut.recovery_limit_s=31", True),
        ("faults.cut.recovery_limit_s=20", False),
        ("guard.clean_coverage_min=0.5", True),
        ("run.late_s=3", True),
        ("families.patterns.mode=unmeasured", True),
        ("consumers.plain.expect_slow=true", True),
        ("consumers.plain.count=1", False),
        ('thresholds=[{measure="lost_defect", at_most=0}]', True),
    ],
)
def test_a_loosened_limit_is_marked(setting: str, relaxed: bool) -> None:
    found = read(sets=[setting]).effective
    assert any(found.relaxed) is relaxed
    assert all(source.startswith("--set") for source, loose in zip(found.source, found.relaxed, strict=True) if loose)


def test_every_value_of_the_table_is_json() -> None:
    for value in read(environment={"TEST_DB_PASSWORD": "x"}).effective.value:
        json.loads(value)


def test_nothing_is_opened() -> None:
    assert not Path("x.toml").exists()
    read()


def test_a_fault_has_the_keys_of_its_kind_alone() -> None:
    planted = TEXT.replace("for_s = 1\n", "for_s = 1\nlatency_ms = 3\nlatancy = 1\n")
    first, second = refused(planted)
    assert first == 'x.toml: faults[0].latency_ms: found 3, allowed nothing with kind "down"'
    assert second.startswith("x.toml: faults[0].latancy: found an unknown key, allowed one of name, kind, link")
    (lacks,) = refused(TEXT.replace('kind = "down"', 'kind = "latency"'))
    assert lacks == 'x.toml: faults[0].latency_ms: found nothing, allowed a value, which kind "latency" needs'


@pytest.mark.parametrize("kind", ['kind = "dawn"\n', ""])
def test_without_a_kind_all_else_that_is_wrong_with_a_fault_is_said_as_well(kind: str) -> None:
    found = refused(TEXT.replace('kind = "down"\n', kind).replace("for_s = 1\n", 'for_s = 0\nshare = 2\ntoken = "x"\n'))
    assert [text.split(":")[1].strip() for text in found] == [
        "faults[0].kind", "faults[0].for_s", "faults[0].share", "faults[0].token",
    ]  # fmt: skip
    assert 'allowed one of "latency", "bandwidth"' in found[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        # what follows from a table that is told already is left away ...
        (('name = "patterns"', "name = 7"), ["families[0].name"]),
        (("at_most", "at_most = 'x' #"), ["thresholds[0].at_most"]),
        (('kind = "down"', 'kind = "downn"'), ["faults[0].kind"]),
        # ... and the rest is not
        (
            ("count = 5", "count = 'x'\nsubscribe = { families = ['none'] }"),
            ["consumers[0].count", "consumers[0].subscribe.families[0]"],
        ),
    ],
)
def test_a_table_that_is_refused_hides_no_other_problem_and_makes_none(
    change: tuple[str, str], told: list[str]
) -> None:
    problems = refused(TEXT.replace(*change, 1))
    assert [text.removeprefix("x.toml: ").partition(": ")[0] for text in problems] == told
