"""Is a recorded file read as what wrote it meant it, or else refused with its line?"""

from __future__ import annotations

import codecs
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Identity, Run, Threshold
from loadtests.model.profile.workload import Consumers, Family, Publishers, Shape
from loadtests.plan.recorded import MAX_PROBLEMS
from loadtests.plan.replay import Replayed, ReplayError, parse

SYMBOLS = ["0700", "1E10", "1_000", "AAPL", "BRK;B", 'a"b', "a\u2028b"]
FAMILIES = [
    Family(
        name="patterns",
        channel="tickstock.events.patterns",
        event="pattern_detected",
        keys={"pattern": ["Doji", "Hammer"], "symbol": SYMBOLS},
    ),
    Family(
        name="states",
        channel="tickstock.events.market_state",
        event="ranking_change",
        keys={"symbol": ["AAPL", "0700"]},
    ),
    Family(
        name="jobs",
        channel="tickstock.events.backtesting.progress",
        event="backtest_progress",
        keys={"job": ["007"], "user": ["0042", "1e5"]},
    ),
]


def contract(*names: str) -> Contract:
    return Contract(
        Profile.model_construct(
            name="test",
            seed=7,
            run=Run(duration_s=3.0),
            families=FAMILIES,
            publishers=[
                Publishers(name="p", families=list(names or ("patterns",)), shape=Shape(kind="replay", file="x"))
            ],
            consumers=[Consumers(name="all", count=1)],
            readers=[],
            faults=[],
            thresholds=[Threshold(measure="lost_defect", at_most=0)],
        )
    )


def read(text: str | bytes, *names: str, identity: Identity | None = None) -> tuple[Replayed, ...]:
    known = contract(*names)
    routes = [known.routes[index] for index in known.publisher_routes(0)]
    return parse(text.encode() if isinstance(text, str) else text, routes=routes, identity=identity)


def keys(event: Replayed, *names: str) -> dict[str, str]:
    assert event.route is not None
    return dict(contract(*names).routes[event.route].keys)


def problems(text: str | bytes, *names: str, identity: Identity | None = None) -> list[str]:
    with pytest.raises(ReplayError) as caught:
        read(text, *names, identity=identity)
    return caught.value.problems


TABLE = "time,symbol,pattern,confidence,note\n1,0700,Doji,0.5,07\n2.5,1E10,Hammer,1,1_0\n"


def test_keys_and_texts_stay_as_written_and_numbers_of_the_event_become_numbers() -> None:
    first, second = read(TABLE)
    assert keys(first) == {"symbol": "0700", "pattern": "Doji"}
    assert keys(second) == {"symbol": "1E10", "pattern": "Hammer"}
    assert first.fields == {"confidence": 0.5, "note": "07"}
    assert second.fields == {"confidence": 1, "note": "1_0"}
    assert second.due_ns == 1.5 * NS_PER_S


def test_ids_of_users_and_jobs_are_text_under_either_name() -> None:
    for text in (
        "time,user_id,job_id,progress\n0,0042,007,0.5\n",
        "time,user,job,progress\n0,0042,007,0.5\n",
        '{"time": 0, "user_id": "0042", "job": "007", "progress": 0.5}',
    ):
        (event,) = read(text, "jobs")
        assert keys(event) == {"user": "0042", "job": "007"}
        assert event.fields == {"progress": 0.5}
    (event,) = read('{"time": 0, "user_id": 1e5, "job_id": "007"}', "jobs")
    assert keys(event)["user"] == "1e5"
    assert problems('{"time": 0, "user_id": 42}', "jobs") == ['line 1: user: found "42", allowed "0042", "1e5"']
    assert "found true, allowed text" in problems('{"time": 0, "user_id": true}', "jobs")[0]
    assert "beside" in problems("time,user,user_id\n0,0042,1e5", "jobs")[0]


def test_a_row_goes_where_its_keys_say_and_nowhere_else() -> None:
    only, both, none = read("time,symbol\n0,AAPL\n", "patterns", "states"), read(TABLE), read("time\n0\n")
    assert keys(only[0], "patterns", "states") == {"symbol": "AAPL"}
    assert all(event.route is not None for event in both)
    assert none[0].route is None
    assert problems("time,symbol\n0,AAPL\n1,MSFT\n2,MSFT\n3,GOOG", "states") == [
        'line 3: symbol: found "MSFT", allowed "AAPL", "0700" (and 1 more lines)',
        'line 5: symbol: found "GOOG", allowed "AAPL", "0700"',
    ]
    assert problems("time,symbol,job\n0,AAPL,007", "states", "jobs") == [
        'line 2: found symbol "AAPL" with job "007", allowed what one family of these publishers has together'
    ]
    assert 'found "", allowed' in problems("time,symbol\n0,", "states")[0]
    assert 'found " AAPL", allowed' in problems("time,symbol\n0, AAPL", "states")[0]


@pytest.mark.parametrize("name", ["Symbol", " symbol", "SYMBOL", "Event_Type"])
def test_a_key_that_is_spelt_otherwise_is_no_field(name) -> None:
    assert f'found "{name}" as a name, allowed "{name.strip().lower()}"' in problems(f"time,{name}\n0,AAPL")[0]
    assert f'found "{name}" as a name' in problems(f'{{"time": 0, "{name}": "AAPL"}}')[0]


def test_an_event_of_another_type_is_not_published_as_one_of_ours() -> None:
    text = "time,event_type,symbol\n0,{},AAPL\n"
    assert keys(read(text.format("ranking_change"), "patterns", "states")[0], "patterns", "states") == {
        "symbol": "AAPL"
    }
    assert keys(read(text.format("pattern_detected"), "patterns", "states")[0])["pattern"] == "Doji"
    assert 'event_type: found "tick", allowed "ranking_change"' in problems(text.format("tick"), "states")[0]


def spreadsheet(delimiter: str, end: str, comma: bool) -> str:
    """What a spreadsheet writes: trailing empty columns and lines, a line break in a field."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(["timestamp", "symbol", "pattern", "confidence", "note", "", ""])
    for at in range(3):
        number = f"0,{at}5" if comma else f"0.{at}5"
        writer.writerow([f"2026-01-31T09:30:0{at}Z", "0700", "Doji", number, f"ä{end}b", "", ""])
    writer.writerow([""] * 7)
    return out.getvalue() + end * 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-sig", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("delimiter", "comma"), [(",", False), (";", False), (";", True), ("\t", False), ("\t", True)])
def test_what_spreadsheets_write_is_read(encoding, end, delimiter, comma) -> None:
    text = spreadsheet(delimiter, end, comma)
    data = codecs.BOM_UTF16_BE + text.encode("utf-16-be") if encoding == "utf-16-be-sig" else text.encode(encoding)
    events = read(data)
    assert [event.due_ns for event in events] == [0, NS_PER_S, 2 * NS_PER_S]
    assert [event.fields for event in events] == [{"confidence": c, "note": f"ä{end}b"} for c in (0.05, 0.15, 0.25)]
    assert keys(events[0])["symbol"] == "0700"


def test_the_separator_line_of_a_spreadsheet_is_none_of_the_rows() -> None:
    (event,) = read("sep=;\r\ntime;symbol\r\n0,5;AAPL\r\n")
    assert keys(event)["symbol"] == "AAPL"
    assert problems("sep=;\ntime;symbol\n0;MSFT\n")[0].startswith("line 3: symbol")
    assert "sep=|" in problems("sep=|\ntime|symbol\n")[0]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_end_at_line_ends_only(end) -> None:
    rows = [
        '{"time": 0, "symbol": "a\u2028b", "note": "\u2029\u0085\x0c"}'.replace("\x0c", "\\f"),
        "",
        '{"time": 1}',
        "",
    ]
    first, second = read(end.join(rows))
    assert keys(first)["symbol"] == "a\u2028b"
    assert first.fields["note"] == "\u2029\u0085\x0c"
    assert second.due_ns == NS_PER_S
    assert problems(end.join(['{"time": 0}', "", '{"time": 1']))[0].startswith("line 3: found")


@pytest.mark.parametrize(
    ("texts", "gap_ns"),
    [
        (("0", "0.5"), NS_PER_S // 2),
        (("-1", "1e0"), 2 * NS_PER_S),
        (("1767225600", "1767225600.000001"), 1000),
        (("1767225600123", "1767225600124"), 10**6),
        (("1767225600123.25", "1767225600123.5"), 250_000),
        (("1767225600123456", "1767225600123457"), 1000),
        (("1767225600123456789", "1767225600123456790"), 1),
    ],
)
def test_an_epoch_time_is_read_in_the_unit_that_its_size_shows(texts, gap_ns) -> None:
    start, end = texts
    assert [e.due_ns for e in read(f"time\n{start}\n{end}\n")] == [0, gap_ns]
    (_, second) = read(f'{{"time": {start}}}\n{{"time": {end}}}')
    assert abs(second.due_ns - gap_ns) <= 300  # a number of JSON is a binary64


def test_iso_times_without_a_zone_are_utc() -> None:
    rows = read('{"timestamp":"2026-01-01T00:00:00"}\n{"timestamp":"2026-01-01T01:00:01.000001+01:00"}')
    assert [row.due_ns for row in rows] == [0, NS_PER_S + 1000]


REFUSED = {
    "nothing": ("", "line 1: found no event"),
    "blank lines": ("\n\n", "line 1: found no event"),
    "a header alone": ("time,symbol\n", "no event"),
    "too few values": ("time,symbol\n1", "line 2: found 1 values"),
    "too many values": ("time,symbol\n1,AAPL,x", "line 2: found 3 values"),
    "no time": ("symbol\nAAPL", "line 1: found no time"),
    "a row without a time": ('{"time": 0}\n{"symbol": "AAPL"}', "line 2: found no time"),
    "a torn object": ('{"time": 1}\n{"time": ', "line 2: found"),
    "objects over lines": ('{\n"time": 1\n}', "line 1: found"),
    "an array": ('[{"time": 1}]', "JSON array"),
    "an infinite nest": ('{"time": 1, "a": ' + "[" * 5000 + "]" * 5000 + "}", "line 1: found"),
    "words": ('{"time": "yesterday"}', 'line 1: time: found "yesterday"'),
    "true": ('{"time": true}', "line 1: time: found true"),
    "no value": ('{"time": null}', "line 1: time: found null"),
    "NaN in CSV": ("time\nnan", 'line 2: time: found "nan"'),
    "NaN in JSON": ('{"time": 0, "confidence": NaN}', "line 1: found"),
    "Infinity in JSON": ('{"time": 0, "confidence": Infinity}', "line 1: found"),
    "more than a number": ('{"time": 0, "confidence": 1e999}', "line 1: found"),
    "underscores": ("time,confidence\n0,1_0", 'line 2: confidence: found "1_0", allowed a number'),
    "leading zeros": ("time,confidence\n0,007", 'line 2: confidence: found "007"'),
    "spaces": ("time,confidence\n0, 1", 'line 2: confidence: found " 1"'),
    "other digits": ("time,confidence\n0,١", "line 2: confidence: found"),
    "no number": ("time,confidence\n0,", 'line 2: confidence: found ""'),
    "infinite": ("time,confidence\n0,1e999", "line 2: confidence: found"),
    "a decimal comma between commas": ('time,confidence\n0,"0,5"', 'line 2: confidence: found "0,5"'),
    "thousands": ("time;confidence\n0;1.234,5", 'line 2: confidence: found "1.234,5"'),
    "both marks": ("time;confidence\n0;0,5\n1;0.5", 'line 3: confidence: found "0.5", allowed a number such as 0,5'),
    "two units": ("time\n0\n1767225600123\n", "line 3: time: found a time in epoch milliseconds, allowed seconds"),
    "two forms": ("time\n2026-01-01\n1767225600\n", "line 3: time: found a time in seconds, allowed ISO 8601"),
    "no unit": ("time\n20260131093000\n", 'line 2: time: found "20260131093000"'),
    "a day or seconds": ("time\n20260131\n", 'line 2: time: found "20260131"'),
    "an epoch time as due": ("due_s\n1767225600123\n", 'line 2: due_s: found "1767225600123", allowed seconds'),
    "a local date": ("time\n31.01.2026 09:30\n", 'line 2: time: found "31.01.2026 09:30"'),
    "a column twice": ("time,symbol,symbol\n0,AAPL,AAPL", 'line 1: column 3: found "symbol" again'),
    "a column without a name": (",time\n1,0", "line 1: column 1: found no name"),
    "an open quote": ('time,note\n0,"abc\n1,x\n', "line 2: found a row that is no CSV"),
    "our own place": ("time,note\n0,@@timestamp@@", "line 2: found"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_with_its_line(case) -> None:
    text, says = REFUSED[case]
    assert says in problems(text)[0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("time,note\n0,a\n1,für\n".encode("cp1252"), "line 3: found the byte 0xFC, which is no UTF-8 but perhaps"),
        ("time,note\n0,a\n".encode("utf-16-le"), "line 1: found binary data"),
        ("time,note\n0,a\n".encode("utf-16") + b"\0", "which is no UTF-16-LE, allowed"),
        (b"\x1f\x8b\x08\0\0", "line 1: found the byte 0x8B"),
        (b"PK\x03\x04\0\0", "line 1: found binary data"),
    ],
)  # fmt: skip
def test_another_encoding_is_refused(data, says) -> None:
    assert says in problems(data)[0]


def test_whole_numbers_of_an_event_are_whole_and_its_parts_need_json() -> None:
    assert read("time,symbol,rank_change\n0,AAPL,-3", "states")[0].fields == {"rank_change": -3}
    assert problems("time,symbol,rank_change\n0,AAPL,3.0", "states")[0].endswith("allowed a whole number")


def test_where_the_identity_goes_nothing_of_the_file_is() -> None:
    at = Identity(path="meta.who")
    assert read('{"time": 0, "meta": {"a": 1}}', identity=at)[0].fields == {"meta": {"a": 1}}
    assert "meta: found 1, allowed" in problems('{"time": 0, "meta": 1}', identity=at)[0]
    assert "tickstorm: found" in problems('{"time": 0, "tickstorm": {"r": "x"}}')[0]


def test_all_problems_are_told_at_once_and_no_more_than_a_person_reads() -> None:
    found = problems("time,symbol,confidence\n" + "".join(f"{n},X{n},abc\n" for n in range(100)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[0].startswith('line 2: symbol: found "X0"')
    assert found[1] == 'line 2: confidence: found "abc", allowed a number such as 0.5 (and 99 more lines)'
    assert found[-1] == "and 81 more problems"
    assert all(len(line) < 300 for line in problems(f"time,symbol\n0,{'x' * 10_000}\n"))


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@given(st.lists(CELL, min_size=1, max_size=5), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_text_comes_back_as_it_was_written(values, delimiter, end) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerows([["time", "note"], *(["0", value] for value in values)])
    assert [event.fields["note"] for event in read(out.getvalue())] == values
