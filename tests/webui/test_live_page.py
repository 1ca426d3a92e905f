"""Does the live page live inside Locust's own web UI: link, data, login, base path, reports, and in a browser?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from served import Served, finished

from loadtests.model.live import Live


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


def test_locusts_own_page_links_to_the_live_page(serve: Callable[..., Served]) -> None:
    index = serve().client.get("/")
    assert index.status_code == 200
    assert 'href="/tickstorm"' in index.text
    assert index.text.index("/tickstorm") < index.text.index("</body>")
    assert int(index.headers["Content-Length"]) == len(index.data)


def test_locusts_own_report_has_the_verdict_and_runs_no_text_of_others(serve: Callable[..., Served]) -> None:
    served = serve()
    assert "verdict of this run: <b>none yet</b>" in served.client.get("/stats/report").text
    hostile = "<script>alert(1)</script>"
    served.live = msgspec.structs.replace(finished(), profile=hostile, reasons=[hostile])
    page = served.client.get("/stats/report").text
    assert "verdict of this run: <b>FAIL</b>" in page
    assert 'href="/tickstorm/reports/any/report.html"' in page
    assert "&lt;script&gt;alert(1)" in page
    assert hostile not in page
    assert served.client.get("/tickstorm/report").headers["Location"].endswith("/tickstorm/reports/any/report.html")
    served.live = Live()
    assert served.client.get("/tickstorm/report").status_code == 404


def test_no_other_page_of_locust_is_touched(serve: Callable[..., Served]) -> None:
    assert "tickstorm" not in serve().client.get("/stats/requests").text


def test_the_live_value_comes_as_it_is_and_is_never_cached(serve: Callable[..., Served]) -> None:
    served = serve()
    answer = served.client.get("/tickstorm/live.json")
    assert msgspec.json.decode(answer.data, type=Live) == served.live
    assert answer.headers["Cache-Control"] == "no-store"
    served.live = Live()
    assert served.client.get("/tickstorm/live.json").json["state"] == "idle"


def test_the_page_names_no_resource_of_another_server(serve: Callable[..., Served]) -> None:
    page = serve().client.get("/tickstorm").text
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"https?://", outside)
    assert not re.search(r"<(script|img|iframe)[^>]* src=", outside)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("run", ["..", "unknown", "%2e%2e%2fetc", "a b", "20260105-093012-resilience-7f3b"])
def test_only_reports_that_the_harness_knows_are_served(serve: Callable[..., Served], run: str) -> None:
    answer = serve().client.get(f"/tickstorm/reports/{run}/report.html")
    assert answer.status_code == 404


def test_a_report_is_served(serve: Callable[..., Served]) -> None:
    answer = serve().client.get("/tickstorm/reports/20260105-093012-resilience-7f3a/report.html")
    assert "the report" in answer.text
    assert answer.mimetype == "text/html"


def test_a_base_path_moves_everything(serve: Callable[..., Served]) -> None:
    client = serve(web_base_path="/load").client
    assert 'href="/load/tickstorm"' in client.get("/load/").text
    assert 'data-base="/load/tickstorm"' in client.get("/load/tickstorm").text
    assert client.get("/tickstorm").status_code == 404


def test_the_login_of_locust_guards_every_page(serve: Callable[..., Served]) -> None:
    from flask_login import UserMixin, login_user

    class User(UserMixin):
        def get_id(self) -> str:
            return "u"

    served = serve(web_login=True)
    app = served.ui.app
    assert app is not None
    app.secret_key = "only for this test"
    served.ui.login_manager.user_loader(lambda _: User())
    app.add_url_rule("/let-me-in", view_func=lambda: str(login_user(User())))
    client = app.test_client()
    addresses = ["/tickstorm", "/tickstorm/live.json", "/tickstorm/reports/20260105-093012-resilience-7f3a/report.html"]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 302
        assert "/login" in answer.headers["Location"]
    client.get("/let-me-in")
    for address in addresses:
        assert client.get(address).status_code == 200
    assert client.get("/tickstorm/reports/unknown/report.html").status_code == 404


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """The web UI in a process of its own, for a browser to look at; ends with its input."""
    here = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, str(here / "served.py"), str(tmp_path_factory.mktemp("served"))],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(here.parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address, _, token = process.stdout.readline().strip().partition("/?token=")

        def tell(word: str) -> None:
            process.stdin.write(f"{word}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            assert process.stdout.readline().strip() == word  # type: ignore[union-attr]

        yield address, token, tell
        process.stdin.close()
        process.wait(timeout=60)


@pytest.fixture
def server(shared: tuple[str, str, Callable[[str], None]]) -> tuple[str, str, Callable[[str], None]]:
    """The shared web UI with the run in its first fault."""
    shared[2]("running")
    return shared


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [pytest.param(1280, "light", marks=pytest.mark.prove_all), (390, "dark")])
def test_in_a_browser_the_page_follows_the_run_to_its_verdict(
    chromium: Any, server: tuple[str, Any], width: int, scheme: str
) -> None:
    address, token, tell = server
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    foreign: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((address, "data:")) else None)
    page.goto(f"{address}/tickstorm?token={token}")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'running'", timeout=30_000)
    assert page.inner_text("#phase") == "recovery; fault now: slow-clients"
    assert page.inner_text("[data-key='owed']") == "842,200"
    assert page.inner_text("[data-key='latency_ms.p99']") == "–"
    assert "<b>above</b>" in page.inner_text("#trouble")
    assert page.evaluate("Tickstorm.named('faults').data.to.length") == 2
    assert page.evaluate("Tickstorm.named('data:delivered:0').data.t.length") == 42
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.focus("#follow")
    page.keyboard.press("Enter")
    page.wait_for_function("() => Tickstorm.named('time').end === 60")
    tell("done")
    page.wait_for_selector("#report-link", state="visible", timeout=30_000)
    assert "FAIL" in page.inner_text("#word")
    assert "12 lost" in page.inner_text("#reasons")
    page.click("#report-link")
    assert page.title() == "the report"
    assert (complaints, foreign) == ([], [])
    context.close()


@pytest.fixture(scope="module")
def running_page(chromium: Any, shared: tuple[str, str, Callable[[str], None]]) -> Iterator[Any]:
    """The live page of the run in its first fault: whoever looks on it leaves the run there."""
    address, token, tell = shared
    tell("running")
    page = chromium.new_page()
    page.goto(f"{address}/tickstorm?token={token}")
    page.wait_for_function("() => document.documentElement.dataset.shown === 'running'", timeout=60_000)
    yield page
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.prove_all)])
def test_in_a_browser_a_fault_is_played_with_the_keyboard_alone(
    running_page: Any, server: tuple[str, Any], width: int
) -> None:
    _, _, tell = server
    page = running_page
    page.set_viewport_size({"width": width, "height": 900})
    card = page.get_by_role("group", name="link client-gateway", exact=True)
    assert "slow" in card.inner_text()
    assert "+201 ms measured" in card.inner_text()
    assert page.get_by_role("group", name="link gateway-redis", exact=True).get_by_role("button").all_inner_texts() == [
        "slow",
        "cut",
        "reset",
        "heal",
    ]
    slow = page.get_by_role("button", name="slow gateway-redis")
    slow.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert slow.evaluate("e => e === document.activeElement")
    page.keyboard.press("Enter")
    assert page.get_by_label("latency in ms").evaluate("e => e === document.activeElement")
    page.keyboard.type("5")  # what stands there is 200
    page.get_by_label("for how long, in s").fill("2")
    page.keyboard.press("Enter")
    page.locator("#said", has_text="by-hand-1: latency on gateway-redis").wait_for(timeout=30_000)
    assert slow.evaluate("e => e === document.activeElement")
    tell("refuse")
    page.get_by_role("button", name="kill redis").click()
    assert "will be refused" in page.inner_text("#ask-lead")
    page.keyboard.press("Enter")
    page.locator("#ask-error", has_text="no test system").wait_for(timeout=30_000)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Heal everything").click()
    page.locator("#said", has_text="no test system").wait_for(timeout=30_000)
    assert page.get_by_role("button", name="Heal everything").evaluate("e => e.getBoundingClientRect().top < 200")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_in_a_browser_each_link_says_what_its_probe_saw(running_page: Any) -> None:
    page = running_page
    shown = {
        link: page.get_by_role("group", name=f"link {link}", exact=True).locator("p").all_inner_texts()[2:4]
        for link in ("publisher-redis", "gateway-redis", "producer-redis", "gateway-postgres", "producer-postgres")
    }
    assert shown == {
        "publisher-redis": ["1.20 ms", "open"],
        "gateway-redis": ["refused", "refused"],  # without a fault in force
        "producer-redis": ["700 µs, 5 s ago", "open"],
        "gateway-postgres": ["no answer, 9 s ago", "open"],  # too old to say how it is
        "producer-postgres": ["delay not measured", "open"],
    }


@pytest.mark.browser
def test_in_a_browser_a_recovery_is_counted_up_between_two_answers(chromium: Any, server: tuple[str, Any]) -> None:
    address, token, tell = server
    tell("healing")
    page = chromium.new_page()
    page.goto(f"{address}/tickstorm?token={token}")
    counted = page.locator("#recovering li", has_text="since heal, 120 of 200 clients fresh")
    counted.wait_for(timeout=30_000)
    first = counted.inner_text()
    page.wait_for_function("first => document.querySelector('#recovering .coming').textContent !== first", arg=first)
    assert page.evaluate("Tickstorm.named('recoveries').data.to.length") == 2
    assert page.locator("#notes").inner_text() == "12.0 s: <i>now</i> with the new build"
    page.close()


@pytest.mark.browser
def test_in_a_browser_the_link_stands_beside_locusts_own_page(chromium: Any, server: tuple[str, Any]) -> None:
    address, token, tell = server
    tell("idle")
    page = chromium.new_page()
    page.goto(f"{address}/?token={token}")
    page.get_by_text("Tickstorm live page").click()
    page.wait_for_function("() => document.documentElement.dataset.shown === 'idle'", timeout=30_000)
    assert "no run yet" in page.inner_text("#run")
    assert page.inner_text("[data-key='owed']") == "0"
    page.close()
