"""How do tests that mostly wait go side by side?  In a few threads; each still is a test with an outcome of its own.

The first test of a module that is marked with `beside` has all those of the module begin that were selected; a test
then waits for its own. A folder has a fixture `outcomes` of the scope module, which says what a test has for itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

ABREAST = 4
LONGEST_S = 200.0


def beside(body: Callable[..., None]) -> Callable[..., None]:
    """Has a test played beside others. It stands above `parametrize`, and shares nothing that it changes."""
    marks = getattr(body, "pytestmark", [])
    varied = [name for mark in marks if mark.name == "parametrize" for name in _names(mark.args[0])]

    def test(outcomes: dict[str, Future[None]], request: pytest.FixtureRequest, **_: Any) -> None:
        outcomes[request.node.nodeid].result(LONGEST_S)

    test.__name__, test.__doc__, test.__module__ = body.__name__, body.__doc__, body.__module__
    test.__qualname__ = body.__qualname__
    test.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("outcomes", "request", *varied)]
    )
    test.body = body  # type: ignore[attr-defined]
    test.pytestmark = marks  # type: ignore[attr-defined]
    return test


@contextmanager
def begun(
    request: pytest.FixtureRequest,
    place: Callable[[], AbstractContextManager[object]],
    own: Collection[str],
    abreast: int = ABREAST,
) -> Iterator[dict[str, Future[None]]]:
    """The outcomes of a module's tests, by their ids.

    Each is played in a `place`: arguments named in `own` are attributes of that one, all others fixtures of a module.
    """

    def play(body: Callable[..., None], wanted: list[str], given: dict[str, Any]) -> None:
        with place() as here:
            body(**given, **{name: getattr(here, name) for name in wanted})

    with ThreadPoolExecutor(abreast) as pool:
        outcomes: dict[str, Future[None]] = {}
        for item in request.session.items:
            body = getattr(getattr(item, "function", None), "body", None)
            if body is None or getattr(item, "module", None) is not request.module:
                continue
            given = dict(item.callspec.params) if hasattr(item, "callspec") else {}  # type: ignore[attr-defined]
            others = [name for name in inspect.signature(body).parameters if name not in given]
            wanted = [name for name in others if name in own]
            given |= {name: request.getfixturevalue(name) for name in others if name not in wanted}
            outcomes[item.nodeid] = pool.submit(play, body, wanted, given)
        try:
            yield outcomes
        finally:
            pool.shutdown(cancel_futures=True)


def _names(names: str | tuple[str, ...] | list[str]) -> list[str]:
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
