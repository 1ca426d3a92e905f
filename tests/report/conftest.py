"""Which pages do the tests of the report look at?  Each is drawn once: drawing takes more than a second of CPU."""

from __future__ import annotations

import msgspec
import pytest
import sample

from loadtests.report.html import render_html


@pytest.fixture(scope="session")
def long_run() -> str:
    """The page of a run of an hour in half seconds."""
    results = sample.sample()
    many = {name: (values * 30)[:7200] for name, values in results.timeline.series.items()}
    return render_html(
        msgspec.structs.replace(results, timeline=msgspec.structs.replace(results.timeline, series=many))
    )


@pytest.fixture(scope="session")
def html(long_run: str) -> str:
    """The page of the sample; never the first one of the process, so that no count of the process may show in it."""
    assert long_run
    return render_html(sample.sample())
