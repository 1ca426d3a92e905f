"""Does the examination find what would spoil a run, and refuse only what must be refused?"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from target_servers import Gateway, Postgres, Redis, free_port

from loadtests.capture import machine
from loadtests.capture.machine import Finding, refusals
from loadtests.capture.preflight import Services, doctor, refuse, services_of
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile
from loadtests.model.profile.tables import Target
from loadtests.model.stackwire import SERVICES, Service, Status

ROOT = Path(__file__).parents[2]
QUICK = read_profile((ROOT / "profiles" / "locust-quick.toml").read_bytes(), file="x").profile
NO_READERS = QUICK.model_copy(update={"readers": []})


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.fixture
def services(redis_server: Redis, postgres: Postgres, gateway: Gateway) -> Services:
    return Services(
        redis=address(redis_server.port),
        gateway=address(gateway.port),
        gateway_http=address(gateway.port),
        postgres=address(postgres.port),
    )


def changed(services: Services, **values: str) -> Services:
    names = ("redis", "gateway", "gateway_http", "postgres", "toxiproxy", "database", "read_user", "write_user")
    return Services(**{name: getattr(services, name) for name in names} | values)


def test_a_good_target_is_let_through(services: Services) -> None:
    found = by_check(doctor(QUICK, services))
    for check in ("redis", "gateway", "postgres", "read-only role", "file descriptors", "versions"):
        assert found[check].level == "ok", found[check]
    assert "42501" in found["read-only role"].text
    assert all(finding.text.endswith(".") for finding in found.values())
    refuse(QUICK, services)


@pytest.mark.parametrize("name", ["redis", "gateway_http", "postgres", "toxiproxy"])
def test_a_service_that_does_not_answer_refuses_the_run(services: Services, name: str) -> None:
    nowhere = address(free_port())
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, changed(services, **{name: nowhere}))
    (problem,) = caught.value.problems
    assert nowhere in problem
    assert "does not answer" in problem


def test_a_role_that_may_write_refuses_the_run(services: Services, postgres: Postgres) -> None:
    for role in ("app_readwrite", "postgres"):
        with pytest.raises(BadInput) as caught:
            refuse(QUICK, changed(services, read_user=role))
        assert f"{role} is no read-only role" in caught.value.problems[0]
        assert "INSERT (allowed)" in caught.value.problems[0]
    refuse(NO_READERS, changed(services, read_user="app_readwrite"))
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'tickstorm_may_not'")
        assert cursor.fetchone() == (0,)


def test_only_the_missing_privilege_counts_as_read_only(services: Services, postgres: Postgres) -> None:
    """A session that is read-only by a setting refuses too, with 25006, and could set it back."""
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS only_by_setting")
        cursor.execute("CREATE ROLE only_by_setting LOGIN SUPERUSER")
        cursor.execute("ALTER ROLE only_by_setting SET default_transaction_read_only = on")
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, changed(services, read_user="only_by_setting"))
    assert "SQLSTATE 25006" in caught.value.problems[0]


def test_a_role_that_may_become_another_is_no_read_only_role(services: Services, postgres: Postgres) -> None:
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS climber")
        cursor.execute("CREATE ROLE climber LOGIN NOINHERIT")
        cursor.execute("GRANT SELECT ON symbols TO climber")
        cursor.execute("GRANT app_readwrite TO climber")
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, changed(services, read_user="climber"))
    assert "SET ROLE (allowed)" in caught.value.problems[0]
    assert "INSERT" not in caught.value.problems[0]


def test_a_missing_table_is_said_and_not_taken_for_a_refusal(services: Services) -> None:
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, changed(services, database="postgres"))
    assert "cannot read table symbols (42P01)" in caught.value.problems[0]


def test_an_unknown_role_or_database_is_said(services: Services) -> None:
    for change in ({"read_user": "nobody_knows"}, {"database": "no_such_database"}):
        with pytest.raises(BadInput) as caught:
            refuse(QUICK, changed(services, **change))
        assert next(iter(change.values())) in caught.value.problems[0]


def test_all_reasons_come_at_once(services: Services) -> None:
    wrong = changed(services, redis=address(free_port()), postgres=address(free_port()))
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, wrong)
    assert len(caught.value.problems) == 2


def test_too_few_descriptors_refuse_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(50, 60)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.append(new))
    finding = machine.descriptors(QUICK)
    assert finding.level == "bad"
    assert limits[-1] == (60, 60)  # raised as far as it goes before it is refused
    needed = machine.needed_descriptors(QUICK)
    assert needed > 50
    assert f"needs {needed}" in finding.text
    limits.append((needed, needed))
    assert machine.descriptors(QUICK).level == "ok"


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        machine.descriptors(None)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_folder_that_is_not_there_yet_is_looked_up_on_its_disk(tmp_path: Path) -> None:
    assert machine.disk_space(tmp_path / "not" / "yet").level in ("ok", "warn")


def test_memory_is_compared_with_what_the_profile_needs() -> None:
    huge: Profile = QUICK.model_copy(
        update={"consumers": [QUICK.consumers[0].model_copy(update={"count": 10**9})]},
    )
    assert machine.free_memory(huge).level == "warn"
    assert machine.free_memory(QUICK).text


def test_no_local_stack_is_no_reason_to_refuse() -> None:
    assert by_check(doctor(QUICK, None))["stack"].level == "ok"
    refuse(QUICK, None)


def test_a_service_of_the_stack_that_is_not_ready_refuses_the_run(services: Services) -> None:
    addresses = {"redis": services.redis, "gateway": services.gateway, "postgres": services.postgres}
    status = Status(
        services={
            name: Service(
                address=addresses.get(name, ""),
                pid=os.getpid(),
                version="1",
                state="paused" if name == "producer" else "ready",
                origin="ours",
            )
            for name in SERVICES
        },
        links={},
        folder="",
        supervisor_pid=1,
    )
    with pytest.raises(BadInput) as caught:
        refuse(QUICK, status)
    (problem,) = caught.value.problems
    assert problem.startswith("producer of the local stack is paused. ")


def test_an_external_target_is_asked_at_its_own_addresses() -> None:
    target = Target.model_validate({"kind": "external", "redis": "a:1", "gateway": "b:2", "database": "d"})
    found = services_of(target, None)
    assert (found.redis, found.gateway, found.gateway_http, found.postgres, found.database) == (
        "a:1",
        "b:2",
        "",
        "",
        "d",
    )


def test_only_what_is_bad_refuses() -> None:
    findings = [Finding(check=level, level=level, text=f"{level}.", remedy="Do.") for level in ("ok", "warn", "bad")]
    assert refusals(findings) == ["bad. Do."]
