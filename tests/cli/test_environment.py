"""Does `tickstorm help environment` name every variable that the tool reads, and none that it does not?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.cli.surroundings_command import VARIABLES
from loadtests.model.profile.override import ADDRESSES, PREFIX, TEXTS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("loadtests/**/*.py"), *ROOT.glob("proof/**/*.py")])
ASKS = re.compile(r"environ|getenv|env_?var")
CONSTANTS = re.compile(r"""^([A-Z_]+(?:, [A-Z_]+)*)(?:: \w+)? = ("[^"]*"(?:, "[^"]*")*)""", re.M)
HOLDERS = {"environ", "environment"}
"""Names under which the code holds an environment."""


def held(node: ast.expr) -> bool:
    """Whether an expression is an environment: `os.environ`, `environ`, `self.environment`."""
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in HOLDERS


def asked(tree: ast.AST) -> Iterator[ast.expr]:
    """What an environment is asked for, and what options say that they read of it."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=of, attr="get" | "pop" | "setdefault"), args=[key, *_]) if held(of):
                yield key
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[key, *_]):
                yield key
            case ast.Subscript(value=of, slice=key, ctx=ast.Load()) if held(of):
                yield key
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[of]) if held(of):
                yield key
            case ast.keyword(arg="envvar" | "env_var", value=key):
                yield key


def constants() -> dict[str, set[str]]:
    """Names in capitals that are a text somewhere, with the texts; also `A, B = "a", "b"`."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for names, texts in CONSTANTS.findall(path.read_text(encoding="utf-8")):
            for name, text in zip(names.split(", "), re.findall(r'"([^"]*)"', texts), strict=False):
                found.setdefault(name, set()).add(text)
    return found


def read() -> tuple[set[str], set[str]]:
    """Names of variables, and where one is asked for by a name that is no constant."""
    known, names, unknown = constants(), set(), set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for key in asked(ast.parse(text)) if ASKS.search(text) else ():
            if isinstance(key, ast.Constant):
                names.add(str(key.value))
            elif (name := getattr(key, "id", getattr(key, "attr", ""))) in known:
                names |= known[name]
            else:
                unknown.add(f"{path.relative_to(ROOT)}: {ast.unparse(key)}")
    return names, unknown


INDIRECT = {
    "loadtests/model/logins.py: name": {"TEST_DB_PASSWORD", "PG_ADMIN_PASSWORD"},
    "loadtests/model/profile/override.py: name": {PREFIX, *(name for _, name in TEXTS)},
    "loadtests/model/profile/override.py: host_name": {host for _, host, *_ in ADDRESSES},
    "loadtests/model/profile/override.py: port_name": {port for *_, port, _ in ADDRESSES},
}
"""Where a variable is asked for whose name is no constant -> which those are."""
OF_LIBRARIES = {"BROWSER", "COLUMNS", "LINES", "TERM", "NO_COLOR", "TICKSTORM_CHAOS_MARK"}
"""Read by a library for us, or of another process."""


@pytest.fixture(scope="module")
def told() -> set[str]:
    """Every name of the help; of a family, how its names begin."""
    return {name.partition("<")[0] for group in VARIABLES.values() for name in group}


def test_every_variable_that_the_source_reads_is_told_and_no_other(told: set[str]) -> None:
    names, unknown = read()
    assert unknown == INDIRECT.keys()
    assert told == names.union(OF_LIBRARIES, *INDIRECT.values())


def test_a_variable_that_is_read_and_not_told_would_be_found() -> None:
    texts = (
        "os.environ['A']", "environ.get('B', '')", "'C' in os.environ", "self._environment.pop('D')",
        "os.getenv('E')", "typer.Option(envvar='F')", "stats.get('G')",
    )  # fmt: skip
    found = [key.value for text in texts for key in asked(ast.parse(text)) if isinstance(key, ast.Constant)]
    assert found == ["A", "B", "C", "E", "F"]


def test_each_is_told_once_with_what_it_is_for() -> None:
    names = [name for group in VARIABLES.values() for name in group]
    assert len(names) == len(set(names))
    assert all(what for group in VARIABLES.values() for what in group.values())
