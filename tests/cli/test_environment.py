"""Does `tickstorm help environment` name every variable that the tool reads, and none that it does not?"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("loadtests/**/*.py"), *ROOT.glob("proof/**/*.py")])
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


def read() -> tuple[set[str], set[str]]:
    """Names of variables, and where one is asked for by a name that is no constant."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    constants = {
        target.id: node.value.value
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }
    names, unknown = set(), set()
    for path, tree in trees.items():
        for key in asked(tree):
            name = (
                key.value
                if isinstance(key, ast.Constant)
                else constants.get(getattr(key, "id", getattr(key, "attr", "")))
            )
            if isinstance(name, str):
                names.add(name)
            else:
                unknown.add(f"{path.relative_to(ROOT)}: {ast.unparse(key)}")
    return names, unknown
