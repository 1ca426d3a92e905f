"""How is the local stack started, stopped, seen and healed?  The commands `stack up`, `down`, `status` and `heal`.

Also `doctor`: what on this machine, or of the target, would spoil a run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from loadtests.cli.console import next_step, out, tell_line
from loadtests.harness.files import journals
from loadtests.harness.stack_lock import user_of
from loadtests.inject.journal import Journal
from loadtests.inject.startup_sweep import LEFT_ALONE
from loadtests.inject.startup_sweep import heal as heal_by_journal
from loadtests.model.errors import BadInput
from loadtests.stack.folder import stack_folder, write_private
from loadtests.stack.local import LocalStack
from loadtests.stack.orphans import end_left_in
from loadtests.stack.passwords import Passwords

PORTS = (
    "redis",
    "postgres",
    "toxiproxy",
    "gateway",
    "producer",
    "publisher-redis",
    "producer-redis",
    "gateway-redis",
    "gateway-postgres",
    "producer-postgres",
    "client-gateway",
)


def _ports(pairs: Sequence[str]) -> dict[str, int]:
    problems, ports = [], {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in PORTS:
            problems.append(f'--port {pair}: "{name}" is no service or link; known are {", ".join(PORTS)}')
        elif not number.isdigit() or not 0 < int(number) < 65536:
            problems.append(f'--port {pair}: found "{number}", allowed is a port from 1 to 65535')
        else:
            ports[name] = int(number)
    if problems:
        raise BadInput(problems)
    return ports


def draw_passwords(file: Path) -> int:
    """Write them as lines that both Docker Compose and a shell read."""
    lines = [f"{name}='{value}'\n" for name, value in Passwords().environment().items()]
    try:
        write_private(file, "".join(lines).encode("ascii"))
    except OSError as error:
        raise BadInput(f"{file}: cannot be written: {error.strerror}") from None
    out.print(
        f"Passwords for docker-compose.yml are in {file}. `docker compose up -d` reads them; so does a shell, for "
        f"tickstorm and locust in it, after: set -a; . {file.absolute()}; set +a", markup=False,
    )  # fmt: skip
    return 0


def up(pairs: Sequence[str]) -> int:
    """Start it, unless it is up."""
    ports = _ports(pairs)
    stack = LocalStack.attach(stack_folder())
    if stack is None:
        stack = LocalStack.up(stack_folder(), ports=ports or None, progress=tell_line)
    elif ports:
        raise BadInput(
            "the local stack is up already: ports can be chosen when it starts; `tickstorm stack down` first"
        )
    shown = _show(stack)
    next_step("tickstorm run first-run", "uses it; `tickstorm stack down` stops it")
    return shown


def down(force: bool) -> int:
    """Stop it, unless a run uses it; nothing to stop is fine."""
    stack = LocalStack.attach(stack_folder())
    if stack is None:
        out.print("the local stack is not up")
        return 0
    run = user_of(stack_folder())
    if run is not None and not force:
        raise BadInput(f"run {run} is using the local stack: end it first, or `tickstorm stack down --force`")
    stack.down()
    out.print("the local stack is down")
    return 0


def status(as_json: bool) -> int:
    """What is up."""
    stack = LocalStack.attach(stack_folder())
    if stack is None:
        if as_json:
            print('{"services": {}, "links": {}}')  # noqa: T201  JSON for programs, no console
        else:
            out.print("the local stack is not up: `tickstorm stack up` starts it")
        return 3
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(stack.status())).decode())  # noqa: T201
        return 0
    return _show(stack)


def heal(trust: Sequence[Path] = ()) -> int:
    """Lift what runs left, by journal and, where the local stack is up, by name; 3 while anything stays open.

    `trust`: journals for which the user vouches, of any author.
    """
    trusted = {path.absolute() for path in trust}
    stack = LocalStack.attach(stack_folder())
    sentences = end_left_in(stack_folder()) if stack is None else []
    found = [*(path for path in journals() if path.absolute() not in trusted), *sorted(trusted)]
    gone = _gone(found, trusted)
    for folder in gone:
        sentences += end_left_in(Path(folder))
    toxiproxy = "" if stack is None else stack.status().services["toxiproxy"].address
    sentences += heal_by_journal(toxiproxy, found, None if stack is None else stack.folder, gone=gone, trusted=trusted)
    for sentence in sentences:
        out.print(sentence, markup=False)
    if stack is None:
        out.print("the local stack is not up: only what the journals of stored runs name could be looked for")
    if not sentences:
        out.print("nothing to heal")
    return 3 if any("not lifted" in s or "Still there" in s or s.startswith(LEFT_ALONE) for s in sentences) else 0


def _gone(found: Sequence[Path], trusted: Collection[Path]) -> set[str]:
    """Folders of local stacks that journals name and that are down."""
    known = [Journal(path, vouched=path in trusted) for path in found]
    named = {entry.supervisor for journal in known for entry in journal.pending() if entry.supervisor}
    return {folder for folder in named if LocalStack.attach(Path(folder)) is None}


def _show(stack: LocalStack) -> int:
    state = stack.status()
    services = Table("service", "state", "address", "pid", "version", box=None, pad_edge=False)
    for name, s in state.services.items():
        services.add_row(name, s.state, s.address, str(s.pid or "-"), f"{s.version} ({s.origin})")
    out.print(services)
    links = Table("link", "enter at", "leads to", box=None, pad_edge=False)
    for name, link in state.links.items():
        links.add_row(name, link.listen, link.upstream)
    out.print(links)
    return 0 if all(s.state == "ready" for s in state.services.values()) else 3
