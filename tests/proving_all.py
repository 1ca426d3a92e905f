"""Does what is slow and rarely breaks still hold?  Proofs in full, shipped profiles again and again, a busy machine.

`make prove-all`, or some of it: `make prove-all ONLY="chaos burners"`. It wants the machine to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from playing import groups

ALL_EXAMPLES = "TICKSTORM_ALL_EXAMPLES"  # tests/examples.py
ROOT = Path(__file__).resolve().parents[1]
TICKSTORM = [sys.executable, "-m", "loadtests.cli"]
SHIPPED, TIMES = ("first-run", "tickstock-baseline", "burst"), 3
BURNERS, BURNED = 2, 10
"""So many busy loops, beside so many runs."""

UNKNOWN_STATUS = 3
OF_TIME = ("latency_", "slowest_client_", "service_", "query_mean", "query_p95", "query_max", "health_ms")
"""Measures that a busy machine may put beyond their limits by slowing the target, which shares it."""

Proof = Callable[[], list[str]]
"""What is wrong; empty where all holds."""


def command(*argv: str) -> list[str]:
    """One that says itself what it found."""
    status = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    return [f"{' '.join(argv[3:])}: exit status {status}"] if status else []


def slow_tests() -> list[str]:
    """Those that `make test` leaves out, a folder at a time: some patch their whole process; then all examples."""
    files: dict[Path, list[str]] = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        if "mark.prove_all" in path.read_text("utf-8"):
            files.setdefault(path.parent, []).append(str(path.relative_to(ROOT)))
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "prove_all"]
    wrong = [text for of_folder in files.values() for text in command(*pytest, *of_folder)]
    os.environ[ALL_EXAMPLES] = "1"
    return wrong + command(*pytest[:-2], *groups()["LAWS"], "tests/cli/test_damaged_history.py")


def run(profile: str) -> tuple[int, dict[str, Any]]:
    """Exit status and results of one run on a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="tickstorm-prove-all-") as folder:
        status = subprocess.run(
            [*TICKSTORM, "run", profile, "--no-html"],
            cwd=ROOT,
            env={**os.environ, "TICKSTORM_REPORTS": folder, "TICKSTORM_STACK": f"{folder}/stack"},
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode
        found = [json.loads(path.read_bytes()) for path in Path(folder).glob("*/results.json")]
    return status, found[0] if found else {}


def shipped() -> list[str]:
    """Each of them passes, every time."""
    wrong = []
    for profile in SHIPPED * TIMES:
        status, results = run(profile)
        if status or results.get("verdict") != "PASS":
            wrong.append(f"{profile}: {results.get('verdict')} ({status}): {'; '.join(results.get('reasons', []))}")
    return wrong


def burned() -> list[str]:
    """Runs beside busy loops: what they say of the target is never the loops' doing."""
    wrong = []
    for number in range(1, BURNED + 1):
        with burners(BURNERS):
            status, results = run("first-run")
        print(f"beside {BURNERS} burners: {results.get('verdict')} ({status})", flush=True)
        wrong += [f"run {number} beside {BURNERS} burners: {text}" for text in blamed(status, results)]
    return wrong


def blamed(status: int, results: Mapping[str, Any]) -> list[str]:
    """What a run blames the target for, though this machine was taken away from both of them.

    Never loss, absence, recovery or what came; a time only where the load generator itself had the processor it needed.
    """
    if status not in (0, 1, UNKNOWN_STATUS):
        return [f"exit status {status}"]
    kept_up = results["harness"]["saturated_s"] == 0
    return [
        f"{check['name']}: {check['summary']}"
        for check in results["checks"]
        if check["verdict"] == "FAIL" and not (kept_up and check["name"].startswith(OF_TIME))
    ]


@contextlib.contextmanager
def burners(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many busy loops, which end with this process too."""
    loop = f"import os\nwhile os.getppid() == {os.getpid()}: pass"
    held = [subprocess.Popen([sys.executable, "-c", loop], stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield held
    finally:
        for each in held:
            each.kill()
            each.wait()


PROOFS: dict[str, Proof] = {
    "account": lambda: command(*TICKSTORM, "prove", "--full"),
    "day": lambda: command(*TICKSTORM, "prove", "--only", "day"),
    "faults": lambda: command(*TICKSTORM, "prove", "--faults"),
    "chaos": lambda: command(*TICKSTORM, "prove", "--chaos", "--moments", "20"),
    "gate": lambda: command(*TICKSTORM, "prove", "--gate"),
    "tests": slow_tests,
    "shipped": shipped,
    "burners": burned,
}


def prove(proofs: Mapping[str, Proof]) -> int:
    """Carries them out in turn, and tells all that is wrong at the end; the exit status."""
    wrong: dict[str, list[str]] = {}
    for name, proof in proofs.items():
        began = time.monotonic()
        print(f"== {name} ...", flush=True)
        wrong[name] = proof()
        print(f"== {name}: {'WRONG' if wrong[name] else 'ok'} ({time.monotonic() - began:.0f} s)", flush=True)
    for name, texts in wrong.items():
        for text in texts:
            print(f"WRONG {name}: {text}")
    held = sum(not texts for texts in wrong.values())
    print(f"{held} of {len(wrong)} hold", flush=True)
    return 0 if held == len(wrong) else 1


def main(names: Sequence[str]) -> int:
    """All of them, or those that are named."""
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        print(f"there is no {', '.join(unknown)}; known are {', '.join(PROOFS)}", file=sys.stderr)
        return 2
    return prove({name: proof for name, proof in PROOFS.items() if not names or name in names})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
