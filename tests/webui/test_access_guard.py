"""Who may act on a run from the page, and what is he told when he may not?"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from served import Served
from werkzeug.test import create_environ, run_wsgi_app

from loadtests.model.profile.manual_fault import ManualFaultRefused
from loadtests.webui.access_guard import FORM, HEADER, WEB_HOSTS, is_ours, own_names
from loadtests.webui.access_guard import MOST_BYTES as MOST_BODY
from loadtests.webui.live_page import MOST_BYTES

LOGIN = "/login"
CUT = {"kind": "down", "link": "gateway-redis", "for_s": 5}


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    monkeypatch.setattr(sys, "argv", ["locust"])  # Locust reads the command line for its start form
    made: list[Served] = []

    def build(**web: Any) -> Served:
        made.append(Served(tmp_path, **web))
        return made[-1]

    yield build
    for served in made:
        served.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["locust"])
        made = Served(tmp_path_factory.mktemp("served"))
        yield made
        made.close()


@pytest.fixture
def served(shared: Served) -> Served:
    """A web UI that was asked for nothing yet and refuses nothing; who changes more than that takes one of his own."""
    shared.manual.asked.clear()
    shared.manual.refusal = None
    return shared


def post(served: Served, what: str, body: object, **headers: str) -> Any:
    return served.client.post(f"/tickstorm/{what}", json=body, headers={HEADER: served.guard.token, **headers})


def test_what_the_page_asks_reaches_the_run(served: Served) -> None:
    assert post(served, "fault", CUT).json == {"ok": True, "fault": "by-hand-1"}
    assert post(served, "heal", {"fault": "by-hand-1"}).json == {"ok": True, "faults": ["by-hand-1"]}
    assert post(served, "heal", {"place": "gateway-redis"}).status_code == 200
    assert post(served, "heal", {"plan": True}).status_code == 200
    assert post(served, "note", {"text": "look"}).json == {"ok": True}
    assert served.manual.asked == [
        ("begin", CUT),
        ("end", "by-hand-1"),
        ("end_all", ("gateway-redis", False)),
        ("end_all", ("", True)),
        ("note", "look"),
    ]


@pytest.mark.parametrize("what", ["fault", "heal", "note"])
@pytest.mark.parametrize(
    "headers",
    [
        {HEADER: ""},
        {HEADER: "TOKEN-OF-THIS-PROCESS"},
        {HEADER: "ü"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_forged_request_is_refused_and_does_nothing(served: Served, what: str, headers: dict[str, str]) -> None:
    answer = post(served, what, CUT, **headers)
    assert answer.status_code == 403
    assert answer.json["error"]
    assert served.manual.asked == []


def test_a_request_of_our_own_page_may_say_where_it_comes_from(served: Served) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}):
        assert post(served, "fault", CUT, **headers).status_code == 200


def test_each_start_has_a_token_of_its_own(serve: Callable[..., Served]) -> None:
    first, second = serve().guard.token, serve().guard.token
    assert first != second
    assert len(first) >= 40


def test_a_form_of_another_kind_is_refused(served: Served) -> None:
    client = served.client
    headers = {HEADER: served.guard.token}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.post("/tickstorm/fault", data=b"{}", content_type=kind, headers=headers).status_code == 415
    assert client.get("/tickstorm/fault", headers=headers).status_code == 405
    assert served.manual.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"x":"' + b"y" * MOST_BYTES + b'"}'])
def test_what_is_no_small_object_is_refused(served: Served, body: bytes) -> None:
    client = served.client
    headers = {HEADER: served.guard.token}
    answer = client.post("/tickstorm/fault", data=body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert served.manual.asked == []


@pytest.mark.parametrize("body", [{"fault": 1}, {"place": None}, {"plan": "yes"}, {"everything": True}])
def test_a_strange_healing_is_refused(served: Served, body: dict[str, Any]) -> None:
    assert post(served, "heal", body).status_code == 400
    assert served.manual.asked == []


@pytest.mark.parametrize(("why", "status"), [("bad", 400), ("not allowed", 403), ("conflict", 409)])
def test_a_refusal_of_the_run_is_answered_with_its_sentence(served: Served, why: Any, status: int) -> None:
    served.manual.refusal = ManualFaultRefused(why, "the plan is over")
    answer = post(served, "fault", CUT)
    assert (answer.status_code, answer.json["ok"], answer.json["error"]) == (status, False, "the plan is over")


def test_the_login_of_locust_guards_what_changes_a_run(serve: Callable[..., Served]) -> None:
    served = serve(web_login=True)
    assert served.ui.app is not None
    served.ui.app.secret_key = "only for this test"
    served.ui.login_manager.user_loader(lambda _: None)
    for what in ("fault", "heal", "note"):
        answer = post(served, what, CUT)
        assert answer.status_code == 302
        assert "/login" in answer.headers["Location"]
    assert served.manual.asked == []


def test_nobody_can_put_the_page_into_a_frame(served: Served) -> None:
    answer = served.client.get("/tickstorm")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "base", ["http://evil.example:8089", "http://127.0.0.1.evil.example", "http://localhost.example"]
)
def test_another_name_that_leads_here_gets_neither_the_token_nor_a_fault(served: Served, base: str) -> None:
    headers = {HEADER: served.guard.token, "Origin": base, "Sec-Fetch-Site": "same-origin"}
    page = served.client.get("/tickstorm", base_url=base)
    assert page.status_code == 403
    assert served.client.get("/tickstorm/live.json", base_url=base).status_code == 403
    answer = served.client.post("/tickstorm/fault", base_url=base, json=CUT, headers=headers)
    assert answer.status_code == 403
    assert "is no name of this machine" in answer.json["error"]
    assert served.manual.asked == []


@pytest.mark.parametrize("base", ["http://127.0.0.1:8089", "http://[::1]:8089", "http://10.0.0.5", "http://LOCALHOST"])
def test_an_address_of_this_machine_is_fine(served: Served, base: str) -> None:
    headers = {HEADER: served.guard.token, "Origin": base.lower(), "Sec-Fetch-Site": "same-origin"}
    assert served.client.post("/tickstorm/fault", base_url=base, json=CUT, headers=headers).status_code == 200


def test_a_name_may_be_configured(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEB_HOSTS, "load.example, Other.Example")
    client = serve().client
    assert client.get("/tickstorm", base_url="http://load.example:8089").status_code == 200
    assert client.get("/tickstorm", base_url="http://other.example").status_code == 200
    assert client.get("/tickstorm", base_url="http://evil.example").status_code == 403


@pytest.mark.parametrize("asked", ["", "[", "a b", "evil.example@127.0.0.2:x@", "127.1.evil", "0x7f000001.evil"])
def test_what_is_no_host_is_not_ours(asked: str) -> None:
    assert not is_ours(asked, own_names(""))


READ = ("/", "/stats/requests", "/logs", "/exceptions", "/stats/report", "/tickstorm", "/tickstorm/live.json",
        "/tickstorm/start.json", "/tickstorm/state.json", "/tickstorm/report")  # fmt: skip
CHANGED = ("/swarm", "/stop", "/stats/reset", "/user", "/tickstorm/fault", "/tickstorm/heal", "/tickstorm/note")
FOREIGN = (
    {"Origin": "http://attacker.test"},
    {"Origin": "null"},
    {"Origin": "http://localhost:9999"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Host": "attacker.test"},
)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_other_site_may_read_or_change_what_is_served_here(served: Served, headers: dict[str, str]) -> None:
    for path in READ:
        for answer in (served.client.get(path, headers=headers), served.client.options(path, headers=headers)):
            assert answer.status_code == 403, path
    for path in CHANGED:
        answer = served.client.post(path, headers={HEADER: served.guard.token, **headers})
        assert answer.status_code == 403, path
    assert served.manual.asked == []


@pytest.mark.parametrize("path", [*READ, "/none", "/assets/none"])
def test_no_answer_may_be_framed_or_read_by_another_site(served: Served, path: str) -> None:
    for answer in (served.client.get(path), served.client.options(path)):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", CHANGED)
@pytest.mark.parametrize("token", ["", "x", "ü", "0" * 43])
def test_nothing_is_changed_without_the_printed_token(served: Served, path: str, token: str) -> None:
    client = served.client
    for answer in (client.post(path, headers={HEADER: token}), client.put(path), client.delete(path)):
        assert answer.status_code == 403
        assert "the terminal printed" in answer.json["message"]
    client.set_cookie(served.guard.cookie, token or "y")
    assert client.post(path).status_code == 403


def test_the_printed_address_brings_the_token_once_and_hides_it(served: Served) -> None:
    client = served.client
    answer = client.get(f"/tickstorm?token={served.guard.token}&a=1")
    assert (answer.status_code, answer.headers["Location"]) == (303, "tickstorm?a=1")  # relative: a proxy has a path
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert client.post("/tickstorm/note", json={"text": "look"}).status_code == 200
    assert served.client.get("/?token=wrong").status_code == 403
    assert "Set-Cookie" not in served.client.get("/?token=wrong").headers


def test_who_may_only_read_is_told_so_on_locusts_own_page(served: Served) -> None:
    client = served.client
    assert "Read only" in client.get("/").text
    client.set_cookie(served.guard.cookie, "of an earlier start")
    assert "Read only" in client.get("/").text
    client.get(f"/?token={served.guard.token}")
    assert "Read only" not in client.get("/").text


def test_a_link_in_another_page_may_be_followed_to_ours(served: Served) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert served.client.get("/tickstorm", headers=followed).status_code == 200
    assert served.client.post("/stop", headers={HEADER: served.guard.token, **followed}).status_code == 403


NAMES = st.sampled_from(["Host", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Cookie"])
WORDS = st.sampled_from(
    ["http://", "[", "]", "::1", "localhost", "127.0.0.1", ":", "99999", "@", "/", "%", "none", "\xff"]
)
SAID = st.lists(WORDS | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=5), max_size=6)


@given(said=st.dictionaries(NAMES, SAID.map("".join)), token=st.booleans())
@example(said={"Origin": "http://["}, token=True)
@example(said={"Host": "[", "Origin": "http://["}, token=True)
def test_whatever_a_request_says_of_itself_it_passes_or_is_refused(
    shared: Served, said: dict[str, str], token: bool
) -> None:
    environ = {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in said.items()}
    headers = {HEADER: shared.guard.token} if token else {}
    for method, path in (("GET", "/tickstorm/live.json"), ("POST", "/tickstorm/note"), ("GET", "/?token=x")):
        json = {"text": "look"} if method == "POST" else None
        answer = shared.client.open(path, method=method, json=json, headers=headers, environ_overrides=environ)
        assert answer.status_code in (200, 403), (method, path, answer.status_code)


class Endless(io.RawIOBase):
    """A body of chunks; it counts what was read of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        self.taken += len(into)
        into[:] = b"a" * len(into)
        return len(into)


@pytest.mark.parametrize("path", [*CHANGED, LOGIN])
def test_no_body_is_read_beyond_what_a_form_needs(served: Served, path: str) -> None:
    for headers in ({HEADER: served.guard.token}, {}):
        body = Endless()
        asked = create_environ(path, method="POST", headers=headers, content_type=FORM)
        del asked["CONTENT_LENGTH"]
        asked |= {"wsgi.input": body, "wsgi.input_terminated": True}  # as gevent says of a body in chunks
        found, status, _ = run_wsgi_app(served.ui.app, asked)
        allowed = headers or path == LOGIN
        assert status.partition(" ")[0] == ("413" if allowed else "403")
        assert b'"message"' in b"".join(found)
        assert body.taken <= (2 * MOST_BODY if allowed else 0)
        told = served.client.post(path, headers=headers, data=b"a" * (MOST_BODY + 1), content_type=FORM)
        assert told.status_code == (413 if allowed else 403)


def test_a_login_with_files_is_none(served: Served) -> None:
    form = {"password": "x", "file": (io.BytesIO(b"a"), "name")}
    assert served.client.post(LOGIN, data=form, content_type="multipart/form-data").status_code == 415
