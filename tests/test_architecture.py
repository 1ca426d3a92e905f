"""Does the code keep the map?  Who may import whom, what pure folders must not touch, and nothing opened on import."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "loadtests"

# folder -> folders of ours that it may import
MAP = {
    "model": set(),
    "plan": {"model"},
    "tally": {"model"},
    "measure": {"model", "tally"},
    "report": {"model"},
    "drive": {"model", "plan", "tally"},
    "inject": {"model"},
    "capture": {"model"},
    "stack": {"model"},
    "webui": {"model"},
}
PURE = ("model", "plan", "tally", "measure", "report")
ROOTS = ("harness", "cli")  # composition roots: these alone know more than one rim

# What a pure folder may import from outside; everything else is a breach, so that a new one is a decision.
PURE_STANDARD = {
    "__future__", "abc", "array", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "difflib",
    "enum", "fractions", "functools", "hashlib", "heapq", "io", "ipaddress", "itertools", "json", "math", "operator",
    "random", "re", "statistics", "string", "struct", "textwrap", "tomllib", "types", "typing", "zlib",
}  # fmt: skip
# importlib: of model, the part that a row of a table of kinds names; of report, its own package data, the templates.
#  xml: ElementTree builds junit.xml.
PURE_LIBRARIES = {
    "model": {"importlib", "msgspec", "pydantic", "pydantic_core"},
    "plan": {"msgspec", "numpy"},
    "tally": {"msgspec", "numpy"},
    "measure": {"msgspec", "numpy"},
    "report": {"msgspec", "jinja2", "markupsafe", "bokeh", "numpy", "importlib", "xml"},
}
ASKED = (ast.Import, ast.ImportFrom, ast.Call, ast.Attribute)
ONLY_IN = {"toxiproxy": {"loadtests/inject/toxics.py"}}


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """What a module says, read once for all rules."""
    return tuple(node for node in ast.walk(parsed(path)) if isinstance(node, ASKED))


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of all that a module imports, also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    package.split(".")[: len(package.split(".")) - node.level + 1] + ([base] if base else [])
                )
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return frozenset(found)


def ours(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "loadtests" and len(parts) > 1 else None


@pytest.mark.parametrize("folder", sorted(MAP))
def test_folder_imports_only_what_the_map_allows(folder: str) -> None:
    breaches = []
    for path in modules(PACKAGE / folder):
        for name in imports(path):
            target = ours(name)
            if target is not None and target != folder and target not in MAP[folder]:
                breaches.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("folder", PURE)
def test_pure_folder_touches_no_clock_socket_or_file(folder: str) -> None:
    allowed = PURE_STANDARD | PURE_LIBRARIES[folder] | {"loadtests"}
    breaches = []
    for path in modules(PACKAGE / folder):
        breaches += [f"{path.relative_to(ROOT)} imports {n}" for n in imports(path) if n.split(".")[0] not in allowed]
        for node in nodes(path):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("open", "print", "input")
            ):
                breaches.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}()")
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("folder", PURE)
def test_pure_folder_draws_only_from_seeded_generators(folder: str) -> None:
    breaches = []
    for path in modules(PACKAGE / folder):
        for node in nodes(path):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "random"
                and node.attr != "Random"
            ):
                breaches.append(f"{path.relative_to(ROOT)}:{node.lineno} uses random.{node.attr}")
    assert not breaches, "\n".join(breaches)


def test_every_folder_is_on_the_map() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    assert folders == set(MAP) | set(ROOTS)


def test_the_proof_shares_only_the_model_with_what_it_proves() -> None:
    """Its commands also start a stack and write to the console; no other part of the tool knows the proof."""
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(ROOT / "proof")
        for name in imports(path)
        if (ours(name) or "model") not in ("model", *(("stack", "cli") if path.stem.endswith("command") else ()))
    ]
    breaches += [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(PACKAGE)
        for name in imports(path)
        if name.split(".")[0] == "proof"
    ]
    assert not breaches, "\n".join(breaches)


def test_reference_target_imports_nothing_of_ours() -> None:
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(ROOT / "reference_target")
        for name in imports(path)
        if name.split(".")[0] in ("loadtests", "tests", "benchmarks")
    ]
    assert not breaches, "\n".join(breaches)


def test_lying_gateway_imports_the_standard_library_only() -> None:
    """What judges the tool may share nothing with it, not even a library's view of a frame."""
    allowed = sys.stdlib_module_names | {"lying_gateway"}
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(ROOT / "lying_gateway")
        for name in imports(path)
        if name.split(".")[0] not in allowed
    ]
    assert not breaches, "\n".join(breaches)


def test_nothing_of_ours_imports_the_lying_gateway() -> None:
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in (PACKAGE, ROOT / "reference_target")
        for path in modules(folder)
        for name in imports(path)
        if name.split(".")[0] == "lying_gateway"
    ]
    assert not breaches, "\n".join(breaches)


def test_benchmarks_use_tickstorm_as_its_user_does() -> None:
    """By command line, profiles and results.json: what measures the tool must not share its code."""
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(ROOT / "benchmarks")
        for name in imports(path)
        if name.split(".")[0] in ("loadtests", "tests", "reference_target")
    ]
    assert not breaches, "\n".join(breaches)


def test_nothing_of_ours_imports_the_benchmarks() -> None:
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(PACKAGE)
        for name in imports(path)
        if name.split(".")[0] == "benchmarks"
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_confined_library_stays_in_its_module(library: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules(PACKAGE)
        if any(n.split(".")[0] == library for n in imports(path))
    }
    assert users <= ONLY_IN[library]


def test_no_call_may_go_through_a_proxy_of_the_environment() -> None:
    """`urlopen` and the functions of requests read http_proxy and its like; our addresses are reached directly."""
    through = {
        "urlopen", "requests.get", "requests.post", "requests.put", "requests.delete", "requests.head",
        "requests.request", "urlretrieve", "getproxies",
    }  # fmt: skip
    breaches = []
    for path in modules(PACKAGE) + modules(ROOT / "benchmarks"):
        for node in nodes(path):
            if isinstance(node, ast.Attribute):
                of = node.value.id if isinstance(node.value, ast.Name) else ""
                if node.attr in through or f"{of}.{node.attr}" in through:
                    breaches.append(f"{path.relative_to(ROOT)}:{node.lineno} uses {of}.{node.attr}")
        if "requests" in imports(path):
            text = path.read_text(encoding="utf-8")
            if "trust_env = False" not in text and '"proxies": {"http": ""}' not in text:
                breaches.append(f"{path.relative_to(ROOT)} lets requests trust the environment")
    assert not breaches, "\n".join(breaches)


def test_locustfile_holds_no_logic() -> None:
    tree = parsed(ROOT / "locustfile.py")
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    assert all(isinstance(node, kinds) for node in tree.body)


def test_importing_the_locustfile_opens_nothing() -> None:
    """--processes forks after the import: a socket, file or thread opened before would be shared by the workers."""
    code = (
        "import os, runpy, threading\n"
        "import locust\n"
        "def opened():\n"
        "    paths = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]\n"
        "    return {os.readlink(p) for p in paths if os.path.exists(p)}\n"
        "before, threads = opened(), threading.active_count()\n"
        "runpy.run_path('locustfile.py')\n"
        "new = {p for p in opened() - before if not p.startswith('/dev/')}\n"
        "assert not new, new\n"
        "assert threading.active_count() == threads\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
