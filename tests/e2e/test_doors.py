"""Does Locust's web UI open to its user alone?  As the README starts it, tried without token, login or manners."""

from __future__ import annotations

import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import texts
from launching import PAGE, Bench, free_port, until
from test_web import Web, is_up

from proof.account import token_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.group("DOORS")]
PASSWORD = "canary-Pa55word-of-the-web-ui"
ELSEWHERE = {"kind": "external", "redis": "127.0.0.1:1", "gateway": "127.0.0.1:2", "postgres": "127.0.0.1:3",
             "toxiproxy": "127.0.0.1:4"}  # fmt: skip
REPLAY = '{kind="replay",file="/etc/passwd"}'
AIMED = [
    ("; ".join(f'target[{key}]="{value}"' for key, value in ELSEWHERE.items()), "target.kind, target.redis"),
    (f"target={{{', '.join(f'{key} = {value!r}' for key, value in ELSEWHERE.items())}}}", "target.kind, target.redis"),
    ("[target][redis]=127.0.0.1:1", "key=value"),
    ("target[ca_file]=/etc/passwd", "target.ca_file"),
    ("target[processes]={redis=1}", "target.processes"),
    ("target[proxies]={publisher-redis='x'}", "target.proxies"),
    (f"publishers[0].shape={REPLAY}", "publishers.shape.file"),
    (f"publishers[0][shape]={REPLAY}", "publishers.shape.file"),
    (f"publishers[0].shape={REPLAY.replace('passwd', 'none')}; publishers[0].shape[file]=/etc/passwd", "shape.file"),
]
"""Every spelling of a key that leads elsewhere, and the key that the refusal names."""
UNFIT = [
    (("--host", "http://127.0.0.1:1"), 'allowed is "the local stack" or none'),
    (("-r", "2"), "ramp up: found 2 users/s, allowed from 3.5"),
    (("--profile", "nightly"), "nightly: there is no such profile"),
    (("--profile", "burst", "--run-profile", "first-run"), 'profile: found "first-run" and "burst", allowed is one'),
]
"""Numbers and names of Locust's own that no profile can heed."""
FORM = {"host": "", "run_set": "", "run_seed": "", "user_count": "", "spawn_rate": "1"}


def begin(bench: Bench, *argv: str, **environment: str) -> Web:
    port = free_port()
    profile = bench.profile(texts.CALM, "calm")
    child = bench.locust("--web-port", str(port), *argv, TICKSTORM_PROFILE=profile, **PAGE, **environment)
    url = f"http://127.0.0.1:{port}"
    until(lambda: is_up(url) or child.process.poll() is not None, 40, f"the web UI:\n{child.said}")
    return Web(url=url, child=child, bench=bench, profile=profile)


@pytest.fixture(scope="module")
def web(bench: Bench) -> Iterator[Web]:
    found = begin(bench)
    yield found
    found.child.end()


@pytest.fixture(scope="module")
def guarded(bench: Bench) -> Iterator[Web]:
    found = begin(bench, TICKSTORM_WEB_PASSWORD=PASSWORD)
    yield found
    found.child.end()


def refusal(web: Web, path: str, form: dict[str, str] | None = None, **headers: str) -> int:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(web.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_listens_on_loopback_alone(web: Web) -> None:
    port = int(web.url.rpartition(":")[2])
    family = [web.child.process.pid, *(p.pid for p in web.child.family())]
    bound = {c.laddr.ip for pid in family for c in psutil.Process(pid).net_connections("tcp")
             if c.status == psutil.CONN_LISTEN and c.laddr.port == port}  # fmt: skip
    assert bound == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/swarm", "/stop", "/stats/reset", "/user", "/tickstorm/note"])
def test_nothing_starts_or_stops_without_the_printed_token(web: Web, path: str) -> None:
    for headers in ({}, {"X-Tickstorm-Token": "guess"}, {"Cookie": "tickstorm_token=guess"}):
        assert refusal(web, path, {**FORM, "run_profile": "locust-quick"}, **headers) == 403
    assert web.live()["state"] == "idle"


def test_the_token_is_in_no_page_and_in_no_log(web: Web) -> None:
    for path in ("/", "/logs", "/tickstorm", "/stats/report", "/tickstorm/live.json", "/tickstorm/start.json"):
        with urllib.request.urlopen(web.url + path, timeout=10) as answer:
            assert web.token.encode() not in answer.read(), path


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"run_profile": "/etc/passwd"}, "no such profile"),
        ({"run_profile": "/dev/zero"}, "no such profile"),
        ({"run_profile": "../docs/profile"}, "no such profile"),
        ({"run_profile": "locust-quick", "run_set": "target.redis=127.0.0.1:1"}, "target.redis"),
        ({"run_profile": "locust-quick", "run_set": " target.test_system = true"}, "target.test_system"),
        ({"run_profile": "locust-quick", "run_set": "publishers.detector.shape.file=/etc/passwd"}, "shape.file"),
        *(({"run_profile": "locust-quick", "run_set": sets}, text) for sets, text in AIMED),
    ],
)
def test_a_form_names_no_file_and_no_target(web: Web, form: dict[str, str], text: str) -> None:
    web.refuses(text, **form)


@pytest.mark.parametrize(
    "field", ["json_file", "html_file", "csv_prefix", "logfile", "tickstorm config", "stop_timeout"]
)
def test_a_form_sets_no_option_of_locust_that_its_page_does_not_send(web: Web, tmp_path: Path, field: str) -> None:
    form = {**FORM, "user_count": "15", "run_profile": web.profile, field: str(tmp_path / "written")}
    assert refusal(web, "/swarm", form, **{"X-Tickstorm-Token": web.token}) == 403
    assert web.live()["state"] == "idle"


def test_a_class_of_users_gets_no_attribute_that_the_page_does_not_send(web: Web) -> None:
    for sent, status in ((b'{"user_class_name": "EventPublisher", "wait_time": 1}', 403), (b"[]", 400)):
        request = urllib.request.Request(f"{web.url}/user", data=sent, headers={"X-Tickstorm-Token": web.token})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code == status


def test_a_pipe_in_a_form_hangs_nobody(web: Web, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert web.start(run_profile=str(tmp_path / "pipe"))["success"] is False
    assert web.live()["state"] == "idle"


def test_before_the_login_nothing_is_read_started_or_looked_at(guarded: Web) -> None:
    ours = ("/tickstorm", "/tickstorm/live.json", "/tickstorm/start.json", "/tickstorm/state.json", "/tickstorm/report")
    for path in ("/", "/stats/requests", "/logs", "/exceptions", *ours):
        with urllib.request.urlopen(guarded.url + path, timeout=10) as answer:
            assert "/login" in answer.url, path
    request = urllib.request.Request(
        f"{guarded.url}/swarm", data=b"run_profile=/etc/shadow", headers={"X-Tickstorm-Token": guarded.token}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert "/login" in answer.url
        assert b"shadow" not in answer.read()


def test_a_stranger_at_the_login_fills_nothing_and_keeps_nobody_out(guarded: Web) -> None:
    path = "/tickstorm-login"
    assert refusal(guarded, path, {"password": "x" * 100_000}) == 413
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    assert refusal(guarded, path, {"password": "x"}, **multipart) == 415

    def led_to(password: str, **headers: str) -> str:
        data = urllib.parse.urlencode({"password": password}).encode()
        request = urllib.request.Request(guarded.url + path, data=data, headers=headers)
        with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(request, timeout=10) as answer:
            return str(answer.url)

    for _ in range(5):
        assert "/login" in led_to("wrong")
        assert "/login" not in led_to(PASSWORD, **{"X-Tickstorm-Token": guarded.token})


@pytest.mark.browser
def test_in_a_browser_the_password_lets_in_and_the_printed_address_lets_start(guarded: Web, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto(guarded.address)
    page.wait_for_url("**/login*")
    for given in ("wrong-password", PASSWORD):
        page.fill("[name=username]", "me")
        page.fill("[name=password]", given)
        page.click("button[type=submit]")
        if given != PASSWORD:
            page.get_by_text("This is not the password.").wait_for(timeout=10_000)
    page.wait_for_url(f"{guarded.url}/", timeout=10_000)
    page.goto(f"{guarded.url}/tickstorm")
    status = page.evaluate("() => fetch('/stats/reset', {method: 'POST'}).then((answer) => answer.status)")
    assert status == 200
    page.close()


@pytest.mark.parametrize(
    ("argv", "environment", "text"),
    [
        (("--web-host", "0.0.0.0"), {}, "other machines would reach the load generator"),
        (("--web-host", "*"), {}, "other machines would reach the load generator"),
        (("--web-login",), {}, "nobody could log in"),
        ((), {"TICKSTORM_WEB_PASSWORD": "short"}, "TICKSTORM_WEB_PASSWORD: found 5 characters, allowed 8 or more"),
        *(pytest.param(argv, {}, text, marks=pytest.mark.prove_all) for argv, text in UNFIT),
    ],
)
def test_what_would_stand_open_shut_everybody_out_or_be_ignored_does_not_start(
    bench: Bench, argv: tuple[str, ...], environment: dict[str, str], text: str
) -> None:
    port = free_port()
    child = bench.locust("--web-port", str(port), *argv, **environment)
    assert child.wait(40) == 2, child.said
    assert text in child.said
    assert "Traceback" not in child.said
    assert not is_up(f"http://127.0.0.1:{port}")


@pytest.mark.prove_all
def test_the_address_of_a_run_with_a_page_is_on_the_terminal_and_in_no_file(bench: Bench) -> None:
    port = free_port()
    child = bench.start("run", bench.profile(texts.long(60), "doors"), "--web", "--web-port", str(port))
    try:
        until(lambda: "?token=" in child.said or child.process.poll() is not None, 40, child.said)
        token = token_of(child.said)
        run = bench.run_of(child)
        assert not [path for path in run.folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/stop", data=b"", headers={"X-Tickstorm-Token": token}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
    finally:
        child.end()
