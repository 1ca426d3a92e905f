"""Does the consumer find what the publisher packed, and nothing where there is none?"""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.tally.identity import Envelope, Form, Identity, decoder, encode, probe_run

forms = st.sampled_from(["object", "text"])
envelopes = st.sampled_from(["websocket", "socketio"])
identities = st.builds(
    Identity,
    run=st.sampled_from(["r1", "2026-11-21_a-b", probe_run("r1")]),
    stream=st.integers(0, 2**48 - 1),
    seq=st.integers(0, 2**53),
    due_ns=st.integers(-(2**40), 2**60),
    sent_ns=st.integers(-(2**40), 2**60),
)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5)
anything = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)


def wrap(envelope: Envelope, payload: object) -> bytes:
    whole = {"event": "e", "channel": "c", "data": payload} if envelope == "websocket" else ["e", payload]
    return json.dumps(whole).encode()


@settings(max_examples=40, deadline=None)
@given(forms, envelopes, identities, st.sampled_from(["tickstorm", "a.b-c", "meta.deep.er"]), anything)
def test_what_was_packed_is_found(form: Form, envelope: Envelope, who: Identity, path: str, beside: object) -> None:
    value: object = json.loads(encode(form, *who))
    for step in reversed(path.split(".")):
        value = {"beside": beside, step: value}
    assert decoder(form, path, envelope)(wrap(envelope, value)) == who


@settings(max_examples=40, deadline=None)
@given(forms, envelopes, anything)
def test_other_payloads_have_no_identity(form: Form, envelope: Envelope, payload: object) -> None:
    assert decoder(form, "tickstorm", envelope)(wrap(envelope, payload)) is None
    assert decoder(form, "tickstorm", envelope)(wrap(envelope, {"tickstorm": payload})) is None


def test_broken_json_is_told_apart() -> None:
    with pytest.raises(msgspec.DecodeError):
        decoder("object", "tickstorm", "websocket")(b'{"data":{"tickstorm":{"r":')


@pytest.mark.parametrize("run", ["a.b", 'a"b', "a%d", "", "a b"])
def test_a_run_id_that_cannot_travel_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        encode("text", run, 1, 0, 0, 0)
