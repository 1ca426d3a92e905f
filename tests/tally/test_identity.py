"""Does the consumer find what the publisher packed, and nothing where there is none?"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.tally.identity import NO_VALUE, Envelope, Form, MessageIdentity, Seal, decoder, encode, probe_run
from tests.examples import examples

forms = st.sampled_from(["object", "text"])
WEBSOCKET: Envelope = ("data",)
LISTED: Envelope = (1,)
envelopes = st.sampled_from([WEBSOCKET, LISTED, ()])
identities = st.builds(
    MessageIdentity,
    run=st.sampled_from(["r1", "2026-11-21_a-b", probe_run("r1")]),
    stream=st.integers(0, 2**48 - 1),
    seq=st.integers(0, 2**53),
    due_ns=st.integers(-(2**40), 2**60),
    sent_ns=st.integers(-(2**40), 2**60),
    check=st.just(NO_VALUE),
    content=st.integers(0, 2**32 - 1),
)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)


def wrap(envelope: Envelope, payload: object) -> bytes:
    whole = {WEBSOCKET: {"event": "e", "channel": "c", "data": payload}, LISTED: ["e", payload], (): payload}[envelope]
    return json.dumps(whole).encode()


@settings(max_examples=examples(40), deadline=None)
@given(forms, envelopes, identities, st.sampled_from(["tickstorm", "a.b-c", "meta.deep.er"]), anything)
def test_what_was_packed_is_found(
    form: Form, envelope: Envelope, who: MessageIdentity, path: str, beside: object
) -> None:
    run, stream, seq, due_ns, sent_ns, _, content = who
    value: object = json.loads(encode(form, run, stream, seq, due_ns, sent_ns, content))
    for step in reversed(path.split(".")):
        value = {"beside": beside, step: value}
    check = Seal(run).of(stream, seq, due_ns, sent_ns)
    assert decoder(form, path, envelope)(wrap(envelope, value)) == who._replace(check=check)


@settings(max_examples=examples(40), deadline=None)
@given(forms, envelopes, anything)
def test_other_payloads_have_no_identity(form: Form, envelope: Envelope, payload: object) -> None:
    assert decoder(form, "tickstorm", envelope)(wrap(envelope, payload)) is None
    assert decoder(form, "tickstorm", envelope)(wrap(envelope, {"tickstorm": payload})) is None


def test_broken_json_is_told_apart() -> None:
    with pytest.raises(msgspec.DecodeError):
        decoder("object", "tickstorm", WEBSOCKET)(b'{"data":{"tickstorm":{"r":')


@pytest.mark.parametrize("run", ["a.b", 'a"b', "a%d", "", "a b"])
def test_a_run_id_that_cannot_travel_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        encode("text", run, 1, 0, 0, 0)


numbers = st.tuples(st.integers(0, 2**48 - 1), *(st.integers(0, 2**60) for _ in range(3)))
shifts = st.integers(-(2**59), 2**59).filter(bool)


@settings(max_examples=examples(300), deadline=None)
@given(numbers, st.integers(0, 3), shifts)
def test_a_change_of_one_number_always_shows(whole: tuple[int, ...], at: int, shift: int) -> None:
    seal = Seal("r1")
    other = [*whole]
    other[at] = max(0, other[at] + shift) % (2**48 if at == 0 else 2**61)
    assert (seal.of(*whole) == seal.of(*other)) == ([*whole] == other)


@settings(max_examples=examples(300), deadline=None)
@given(numbers, shifts)
def test_an_equal_shift_of_both_times_and_their_exchange_always_show(whole: tuple[int, ...], shift: int) -> None:
    seal = Seal("r1")
    stream, seq, due, sent = whole
    assert seal.of(*whole) != seal.of(stream, seq, due + shift, sent + shift)
    assert (seal.of(*whole) == seal.of(stream, seq, sent, due)) == (due == sent)


@settings(max_examples=examples(200), deadline=None)
@given(numbers, numbers)
def test_what_is_joined_of_two_messages_shows(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Identities exchanged in part: any mixture of two, with the check value of either."""
    seal = Seal("r1")
    for which in range(1, 15):
        mixed = [(other if which >> at & 1 else one)[at] for at in range(4)]
        for whole in (one, other):
            assert mixed == [*whole] or seal.of(*mixed) != seal.of(*whole)


def test_no_two_runs_have_the_same_check_values() -> None:
    assert len({Seal(f"r{n}").of(1, 2, 3, 4) for n in range(500)}) == 500


@pytest.mark.parametrize(
    "found",
    [
        b'{"r":"r","s":1,"q":2,"d":3,"t":4}',
        b'{"r":"r","s":1,"q":2,"d":3,"t":4,"k":17,"c":null}',
        b'{"r":"r","s":1,"q":2,"d":3,"t":4,"k":"xyz","c":["1"]}',
    ],
)
def test_an_identity_without_check_values_is_one(found: bytes) -> None:
    expected = MessageIdentity("r", 1, 2, 3, 4, NO_VALUE, NO_VALUE)
    assert decoder("object", "w", WEBSOCKET)(b'{"data":{"w":%b}}' % found) == expected


@pytest.mark.parametrize("found", ["r.1.2.3.4", "r.1.2.3.4..", "r.1.2.3.4.zz.-"])
def test_a_text_without_check_values_is_one(found: str) -> None:
    read = decoder("text", "w", WEBSOCKET)
    assert read(wrap(WEBSOCKET, {"w": found})) == MessageIdentity("r", 1, 2, 3, 4, NO_VALUE, NO_VALUE)
