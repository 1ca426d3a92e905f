"""Is what docker-compose.yml starts the same target, with the same links and ports, as the local stack?"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import redis
import yaml
from stack_peers import until

from loadtests.cli.stack_command import draw_passwords
from loadtests.model.errors import BadInput
from loadtests.model.stackwire import LINKS, PROXY_PREFIX, SERVICES
from loadtests.stack.folder import package_root
from loadtests.stack.links import PREFERRED
from loadtests.stack.local import LocalStack
from loadtests.stack.passwords import Passwords, kept
from loadtests.stack.servers import TOXIPROXY_VERSION, find_redis
from proof.account import free_port

ROOT = package_root()

# The part of the Compose specification that the file uses; what is not named here is a mistake until it is added.
STRINGS = {"type": "array", "minItems": 1, "items": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^[1-9][0-9]*(ms|s)$"}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ports", "healthcheck"],
    "oneOf": [{"required": ["image"]}, {"required": ["build"]}],
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9/_-]+:[0-9][A-Za-z0-9._-]*$"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"const": "."}, "dockerfile": {"type": "string"}},
        },
        "command": STRINGS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^\./.+:/.+:ro$"}},
        "ports": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {"condition": {"const": "service_healthy"}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout", "retries"],
            "properties": {
                "test": {"type": "array", "minItems": 2, "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}]},
                "interval": DURATION,
                "timeout": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
    },
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def proxies() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads((ROOT / "docker" / "toxiproxy.json").read_text(encoding="utf-8"))}


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def published(service: dict[str, Any]) -> dict[int, int]:
    """Port on the host → port in the container."""
    return {int(host): int(inner) for _, host, inner in (each.split(":") for each in service["ports"])}


def test_it_fits_the_schema(compose: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(compose)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c["services"]["redis"].update(port=["127.0.0.1:1:1"]),
        lambda c: c["services"]["redis"].update(ports=["16379:6379"]),  # on every address
        lambda c: c["services"]["redis"].pop("healthcheck"),
        lambda c: c["services"]["gateway"]["environment"].update(GATEWAY_PORT=15000),  # a number, not a string
        lambda c: c["services"]["redis"].update(image="redis"),  # any version
    ],
)
def test_the_schema_would_see_a_mistake(compose: dict[str, Any], spoil: Any) -> None:
    spoiled = json.loads(json.dumps(compose))
    spoil(spoiled)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(spoiled)


def test_services_are_the_same(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(SERVICES)


def test_ports_are_the_ones_that_the_local_stack_prefers(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        names = (name, *LINKS) if name == "toxiproxy" else (name,)
        assert sorted(published(service)) == sorted(PREFERRED[each] for each in names)


def test_links_are_the_same_and_containers_reach_them(
    compose: dict[str, Any], proxies: dict[str, dict[str, Any]]
) -> None:
    assert set(proxies) == {PROXY_PREFIX + link for link in LINKS}
    entered = published(compose["services"]["toxiproxy"])
    for link in LINKS:
        proxy = proxies[PROXY_PREFIX + link]
        listens_on, port = proxy["listen"].rsplit(":", 1)
        assert listens_on == "0.0.0.0"  # a container's own loopback is closed to the others
        assert entered[PREFERRED[link]] == int(port)
        upstream, inner = proxy["upstream"].rsplit(":", 1)
        assert upstream == link.rsplit("-", 1)[1]
        assert int(inner) in published(compose["services"][upstream]).values()
        assert proxy["enabled"] is True


@pytest.mark.parametrize("who", ["gateway", "producer"])
def test_the_target_uses_its_own_links(compose: dict[str, Any], who: str) -> None:
    service = compose["services"][who]
    env = service["environment"]
    assert env["REDIS_HOST"] == env["PG_HOST"] == "toxiproxy"
    assert int(env["REDIS_PORT"]) == PREFERRED[f"{who}-redis"]
    assert int(env["PG_PORT"]) == PREFERRED[f"{who}-postgres"]
    assert env["PG_USER"] == {"gateway": "app_readonly", "producer": "app_readwrite"}[who]
    assert published(service) == {PREFERRED[who]: int(env[f"{who.upper()}_PORT"])}
    assert service["command"] == ["python", "-m", f"reference_target.{who}"]


def test_each_waits_until_what_it_needs_is_healthy(compose: dict[str, Any]) -> None:
    needs = {name: set(service.get("depends_on", {})) for name, service in compose["services"].items()}
    assert needs == {
        "redis": set(),
        "postgres": set(),
        "toxiproxy": {"redis", "postgres"},
        "gateway": {"toxiproxy"},
        "producer": {"toxiproxy"},
    }


def test_every_secret_comes_from_the_file_of_passwords(compose: dict[str, Any]) -> None:
    drawn = Passwords().environment()
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|REDIS_USERS", name):
                asked = re.fullmatch(r"\$\{([A-Z_]+):\?run `tickstorm stack passwords` first\}", value)
                assert asked, name
                assert drawn[asked[1]]
    assert "trust" not in json.dumps(compose)


@pytest.mark.parametrize("who", ["gateway", "producer"])
def test_redis_asks_for_the_password(compose: dict[str, Any], who: str, tmp_path: Path) -> None:
    passwords, service = Passwords(), compose["services"]["redis"]
    program, port = find_redis(), free_port()
    assert program is not None
    entry = tmp_path / "docker-entrypoint.sh"
    entry.write_text(f'#!/bin/sh\nshift\nexec {program.path} --bind 127.0.0.1 --port {port} "$@"\n', encoding="ascii")
    entry.chmod(0o755)
    command = [part.replace("$$", "$").replace("/tmp/", f"{tmp_path}/") for part in service["command"]]
    env = passwords.environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            until("Redis answers", lambda: accepts(port))
            known = redis.Redis(port=port, username=who, password=getattr(passwords, who))
            assert known.pubsub_channels() == []
            with pytest.raises(redis.exceptions.NoPermissionError):
                known.config_get("*")
            with pytest.raises(redis.exceptions.NoPermissionError):
                redis.Redis(port=port).publish("a", "b")
        finally:
            server.terminate()


def test_postgresql_gives_its_roles_the_passwords(tmp_path: Path) -> None:
    if (psql := shutil.which("psql")) is None:
        pytest.skip("psql is not here")
    passwords = Passwords()
    with LocalStack.up(tmp_path / "stack") as stack:  # its roles have other passwords
        host, port = stack.status().services["postgres"].address.split(":")
        as_postgres = [psql, "-h", host, "-p", port, "-d", "tickstock_test", "-v", "ON_ERROR_STOP=1", "-X"]
        env = passwords.environment() | {"PATH": os.environ["PATH"]}
        own = kept(tmp_path / "stack")
        assert own is not None
        script = ROOT / "docker" / "passwords.sql"
        subprocess.run(
            [*as_postgres, "-U", "postgres", "-f", str(script)],
            env=env | {"PGPASSWORD": own.passwords.postgres}, check=True, capture_output=True,
        )  # fmt: skip
        for role in ("app_readonly", "app_readwrite"):
            for password, status in ((getattr(passwords, role), 0), (getattr(own.passwords, role), 2)):
                done = subprocess.run(
                    [*as_postgres, "-U", role, "-c", "SELECT 1"],
                    env=env | {"PGPASSWORD": password}, check=False, capture_output=True,
                )  # fmt: skip
                assert done.returncode == status


def test_a_shell_and_compose_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    assert draw_passwords(file) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    told = subprocess.run(
        ["sh", "-c", f'set -a; . {file}; printf %s "$TICKSTORM_LOGINS"'], capture_output=True, check=True, env={}
    ).stdout
    logins = json.loads(told)
    assert f"127.0.0.1:{PREFERRED['publisher-redis']}" in logins
    assert f"app_readonly@127.0.0.1:{PREFERRED['postgres']}" in logins
    first = file.read_bytes()
    draw_passwords(file)
    assert file.read_bytes() != first
    with pytest.raises(BadInput, match="cannot be written"):
        draw_passwords(tmp_path / "none" / "env")


def test_what_it_builds_from_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            assert (ROOT / volume.split(":")[0]).is_file()
        if "build" not in service:
            continue
        text = (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_toxiproxy_is_the_version_that_the_local_stack_builds() -> None:
    text = (ROOT / "docker" / "toxiproxy.Dockerfile").read_text(encoding="utf-8")
    assert f"ARG VERSION={TOXIPROXY_VERSION}\n" in text
    pinned = (ROOT / "loadtests" / "stack" / "toxiproxy" / "go.mod").read_text(encoding="utf-8")
    assert f"github.com/Shopify/toxiproxy/v2 v{TOXIPROXY_VERSION}\n" in pinned


def test_the_image_installs_what_the_lock_pins() -> None:
    def blocks(path: Path) -> set[str]:
        lines = path.read_text(encoding="utf-8").replace(" \\\n", " ").splitlines()
        return {" ".join(line.split()) for line in lines if line and not line.lstrip().startswith("#")}

    image = blocks(ROOT / "docker" / "target-requirements.txt")
    assert len(image) > 5
    assert image <= blocks(ROOT / "requirements.lock")


def test_docker_itself_accepts_it() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker with the compose plugin here")
    done = subprocess.run([docker, "compose", "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
