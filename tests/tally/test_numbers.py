"""Are the numbers of many messages written as those of each by itself?"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.tally.identity import Numbers, encode, ending, template
from tests.examples import examples

RUN = "20260102-030405-test-0001"
NUMBERS = {form: Numbers(form, RUN) for form in ("object", "text")}


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from(["object", "text"]),
    st.one_of(
        st.tuples(st.integers(0, 10**12), st.integers(1, 120)).map(lambda of: range(of[0], sum(of))),
        st.lists(st.integers(0, 10**9), min_size=1, max_size=120),
    ),
    st.integers(10**9, 10**16),
    st.integers(0, 10**8),
    st.integers(0, 10**17),
    st.data(),
)
def test_each_text_is_that_of_its_message(
    form: Any, seqs: Any, first_due: int, gap: int, sent_ns: int, data: Any
) -> None:
    due = list(accumulate([first_due, *[gap] * (len(seqs) - 1)]))
    due = [min(ns, 10 ** len(str(first_due)) - 1) for ns in due]
    streams = data.draw(st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=1 if isinstance(seqs, range) else 5))
    numbers = NUMBERS[form]
    of_each = [streams[at % len(streams)] for at in range(len(seqs))]
    bases = [numbers.seal.base(stream) for stream in (streams if len(streams) == 1 else of_each)]
    if len(seqs) == 1:
        bases = bases[:1]
    texts = numbers.texts(bases, seqs, np.array(due, dtype=np.int64), sent_ns)
    assert len(texts) == len(seqs)
    for text, stream, seq, due_ns in zip(texts, of_each, seqs, due, strict=True):
        before = template(form, RUN, stream).partition(b"%d")[0]
        assert before + text + numbers.behind + ending(form, 7) == encode(form, RUN, stream, seq, due_ns, sent_ns, 7)
        digits = len(str(seq)), len(str(due_ns)), len(str(sent_ns))
        assert len(text + numbers.behind) == numbers.size(*digits)
