"""How does a toxiproxy-server come to be where none is installed?  Builds the pinned one; Go verifies the hashes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtests.stack.errors import MissingServer, StackError
from loadtests.stack.servers import TOXIPROXY_VERSION, built_toxiproxy

PACKAGE = "github.com/Shopify/toxiproxy/v2/cmd/server"
VERSION_VARIABLE = "github.com/Shopify/toxiproxy/v2.Version"
NEEDED_GO = (1, 23)
FIRST_GO_THAT_FETCHES = (1, 21)
BUILD_S = 600.0
MODULE = Path(__file__).with_name("toxiproxy")
REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")

Progress = Callable[[str], None]


def build_toxiproxy(environ: Mapping[str, str], progress: Progress) -> Path:
    """Build the pinned server into the servers folder. Raises MissingServer without any Go, StackError if it fails."""
    goal = built_toxiproxy(environ)
    goal.parent.mkdir(parents=True, exist_ok=True)
    with _go(environ, progress) as (go, env):
        progress(f"toxiproxy: building {TOXIPROXY_VERSION} with {go} (about half a minute, once)")
        fresh = goal.with_name(f"{goal.name}.{os.getpid()}")
        flags = f"-s -w -X {VERSION_VARIABLE}={TOXIPROXY_VERSION}"
        try:
            _run(
                [str(go), "build", "-mod=readonly", "-modcacherw", "-trimpath", "-buildvcs=false", "-ldflags", flags,
                 "-o", str(fresh), PACKAGE],
                env=env, cwd=MODULE,
            )  # fmt: skip
            said = _run([str(fresh), "-version"], env=env, cwd=MODULE).strip()
            if said.split()[-1:] != [TOXIPROXY_VERSION]:
                raise StackError(f"The toxiproxy-server that was built says {said!r}, not {TOXIPROXY_VERSION}.")
            goal.with_suffix(".version").write_text(f"{TOXIPROXY_VERSION}\n", encoding="utf-8")
            fresh.replace(goal)
        finally:
            fresh.unlink(missing_ok=True)
    return goal


@contextmanager
def _go(environ: Mapping[str, str], progress: Progress) -> Iterator[tuple[Path, dict[str, str]]]:
    """A Go compiler and its environment: the one on PATH, else one that is here only as long as it is needed."""
    found = _go_on_path(environ)
    base = {name: value for name, value in environ.items() if name not in ("GOFLAGS", "GOTOOLCHAIN", "GOROOT")}
    base |= {"CGO_ENABLED": "0", "GOWORK": "off"}
    scratch = built_toxiproxy(environ).with_name("go")
    private = {"GOPATH": str(scratch / "path"), "GOCACHE": str(scratch / "cache"), "GOENV": "off"}
    try:
        if found is not None:
            go, toolchain = found
            homeless = private if "HOME" not in environ else {}
            yield go, base | homeless | {"GOTOOLCHAIN": toolchain}
            return
        progress("go: not on PATH, fetching it for one build (about 75 MB, removed afterwards)")
        shutil.rmtree(scratch, ignore_errors=True)
        _install_go(scratch / "root", environ)
        go = scratch / "root" / "go" / "bin" / "go"
        yield go, base | private | {"GOTOOLCHAIN": "local", "GOROOT": str(scratch / "root" / "go")}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go_on_path(environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """A Go that can build it, and whether it must fetch a newer one of itself first."""
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which("go", path=folder) if folder else None
        if found is None:
            continue
        said = _run([found, "version"], env=dict(environ) | {"GOTOOLCHAIN": "local"}, cwd=MODULE.parent)
        version = re.search(r"\bgo(\d+)\.(\d+)", said)
        known = (int(version[1]), int(version[2])) if version else (0, 0)
        if known >= NEEDED_GO:
            return Path(found), "local"
        if known >= FIRST_GO_THAT_FETCHES:
            return Path(found), "auto"
    return None


def _install_go(goal: Path, environ: Mapping[str, str]) -> None:
    if not goal.parent.parent.is_dir():
        goal.parent.parent.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    try:
        _run(
            [*pip, "--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:", "--target", str(goal),
             "-r", str(REQUIREMENTS)],
            env=dict(environ), cwd=MODULE.parent,
        )  # fmt: skip
    except StackError as error:
        raise MissingServer(
            "toxiproxy-server is not installed and cannot be built, as there is no Go here and none could be fetched: "
            "install toxiproxy-server or Go 1.23 or newer. What pip said:\n"
            f"{error}"
        ) from None
    program = goal / "go" / "bin" / "go"
    tools = goal / "go" / "pkg" / "tool"
    for path in (program, *(each for each in tools.rglob("*") if each.is_file())):
        path.chmod(path.stat().st_mode | 0o755)


def _run(argv: list[str], *, env: Mapping[str, str], cwd: Path) -> str:
    """What it printed. Raises StackError with that where it failed."""
    try:
        done = subprocess.run(
            argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=BUILD_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise StackError(f"{argv[0]} cannot be started: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{argv[0]} did not end within {BUILD_S:g} s.") from None
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise StackError(f"{' '.join(argv[:2])} ended with exit status {done.returncode}. It said:\n{said.strip()}")
    return said
