"""Can whoever is the user that PostgreSQL runs as make root write, own or hand out a file of root's?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.stack import postgresql
from loadtests.stack.child import ProcessOwner
from loadtests.stack.errors import StackError
from loadtests.stack.servers import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another user")

# It does what a stranger would who is `nobody` too, at the moment that suits him best.
INITDB = """#!/bin/sh
cd "$2" && ln -s {victim} postgresql.conf && ln -s {victim} pg_hba.conf && ln -s {victim} postmaster.pid &&
echo 17 > PG_VERSION && ln -s {victim} ../log; true
"""
POSTGRES = """#!/bin/sh
[ "$1" = --version ] && echo "postgres (PostgreSQL) 17.2" && exit
echo database system is ready to accept connections
exec sleep 60
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user gets through to."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def victim(folder: Path) -> Path:
    path = folder / "victim"
    path.write_text("root's\n", encoding="ascii")
    path.chmod(0o600)
    return path


@pytest.fixture
def nobody() -> ProcessOwner:
    found = postgresql.login()
    assert found is not None
    return found


def test_links_in_the_folder_of_a_template_are_not_written_through(folder: Path, victim: Path) -> None:
    for name, text in (("initdb", INITDB), ("postgres", POSTGRES)):
        path = folder / name
        path.write_text(text.format(victim=victim), encoding="ascii")
        path.chmod(0o755)
    environ = dict(os.environ) | {"TICKSTORM_SERVERS": str(folder / "servers")}
    with pytest.raises(StackError):
        postgresql.make_template(Program(path=folder, origin="PATH"), environ, print)
    assert victim.read_text(encoding="ascii") == "root's\n"
    assert victim.stat().st_uid == 0


@pytest.mark.parametrize("how", ["symlink", "hard link", "pipe", "link to a folder"])
def test_what_a_template_is_copied_from_may_hold_files_of_its_server_alone(
    folder: Path, victim: Path, nobody: ProcessOwner, how: str
) -> None:
    data, secret = folder / "data", folder / "secret"
    data.mkdir()
    secret.mkdir()
    (secret / "key").write_text("root's", encoding="ascii")
    (data / "PG_VERSION").write_text("17", encoding="ascii")
    if how == "symlink":
        (data / "x").symlink_to(victim)
    elif how == "hard link":
        (data / "x").hardlink_to(victim)
    elif how == "pipe":
        os.mkfifo(data / "x")
    else:
        (data / "x").symlink_to(secret)
    for path in (data, data / "PG_VERSION"):
        os.chown(path, nobody.uid, nobody.gid)
    copy = folder / "copy"
    if how == "link to a folder":
        postgresql.clone(data, copy, None, writer=nobody)
        assert [path.name for path in copy.rglob("*")] == ["PG_VERSION"]
    else:
        with pytest.raises(StackError, match="did not write: x"):
            postgresql.clone(data, copy, None, writer=nobody)


def test_a_copy_is_given_away_when_all_is_in_it(
    folder: Path, nobody: ProcessOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, copy = folder / "template", folder / "copy"
    (template / "base" / "1").mkdir(parents=True)
    for name in ("PG_VERSION", "base/1/2"):
        (template / name).write_text("x", encoding="ascii")
    seen, write = [], os.write

    def looks(fd: int, content: bytes) -> int:
        seen.append((copy.stat().st_uid, copy.stat().st_mode & 0o777))
        return write(fd, content)

    monkeypatch.setattr(os, "write", looks)
    postgresql.clone(template, copy, nobody)
    assert seen == [(0, 0o700)] * 2
    assert {path.stat().st_uid for path in (copy, *copy.rglob("*"))} == {nobody.uid}


def test_passwords_are_set_without_a_write_of_roots(folder: Path, victim: Path, nobody: ProcessOwner) -> None:
    data = folder / "data"
    data.mkdir()
    (data / "pg_hba.conf").symlink_to(victim)
    os.chown(data, nobody.uid, nobody.gid)
    (folder / "postgres").write_text("#!/bin/sh\nexec cat > /dev/null\n", encoding="ascii")
    (folder / "postgres").chmod(0o755)
    postgresql.set_passwords(folder, data, nobody, "ALTER ROLE x;")
    assert victim.read_text(encoding="ascii") == "root's\n"


def test_the_folder_above_is_ours_and_its_user_gets_through(nobody: ProcessOwner) -> None:
    private = postgresql.make_private(nobody)
    try:
        assert (private.stat().st_uid, private.stat().st_mode & 0o777) == (0, 0o711)
    finally:
        private.rmdir()
