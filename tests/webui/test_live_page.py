"""Does the live page live inside Locust's own web UI: link, data, login, base path, reports, and in a browser?

What a browser shows is looked at with values that `served.py` makes up; a real run is in `tests/e2e/test_gameday.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from served import TOLD, Served, finished

from loadtests.model.fault_kinds import KINDS
from loadtests.model.live import Live
from loadtests.model.stackwire import LINKS


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
    assert 'href="./tickstorm"' in index.text
    assert index.text.index("./tickstorm") < index.text.index("</body>")
    assert int(index.headers["Content-Length"]) == len(index.data)


def test_locusts_own_report_has_the_verdict_and_runs_no_text_of_others(serve: Callable[..., Served]) -> None:
    served = serve()
    assert "verdict of this run: <b>none yet</b>" in served.client.get("/stats/report").text
    hostile = "<script>alert(1)</script>"
    served.live = msgspec.structs.replace(finished(), profile=hostile, reasons=[hostile])
    page = served.client.get("/stats/report").text
    assert "verdict of this run: <b>FAIL</b>" in page
    assert 'href="../tickstorm/reports/20260105-093012-resilience-7f3a/report.html"' in page
    assert "&lt;script&gt;alert(1)" in page
    assert hostile not in page
    assert (
        served.client.get("/tickstorm/report").headers["Location"]
        == "../tickstorm/reports/20260105-093012-resilience-7f3a/report.html"
    )
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
    for path in ("", "/live.json", "/between.json", "/state.json", "/start.json"):
        assert client.get(f"/load/tickstorm{path}").status_code == 200
        assert client.get(f"/tickstorm{path}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/tickstorm", "/stats/report"])
def test_no_page_of_ours_says_where_it_is_served(serve: Callable[..., Served], path: str) -> None:
    served = serve()
    served.live = finished()
    page = re.sub(r"<script.*?</script>", "", served.client.get(path).text, flags=re.S)
    assert not re.findall(r"(?:href|src|action)=\"/[^\"]*", page), "a proxy may put a path before ours"


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
def live_page(chromium: Any, shared: tuple[str, str, Callable[[str], None]]) -> Iterator[Any]:
    address, token, _ = shared
    page = chromium.new_page()
    page.goto(f"{address}/tickstorm?token={token}")
    yield page
    page.close()


@pytest.fixture
def showing(live_page: Any, shared: tuple[str, str, Callable[[str], None]]) -> Callable[[str], Any]:
    """The live page as soon as it shows what a word of `served.py` stands for."""

    def show(word: str) -> Any:
        shared[2](word)
        live_page.set_viewport_size({"width": 1280, "height": 900})
        live = TOLD[word]()
        live_page.wait_for_function(SHOWS, arg=[live.state, live.now_s], timeout=60_000)
        return live_page

    return show


SHOWS = """([state, now]) => document.documentElement.dataset.shown === state
  && parseFloat(document.querySelector("[data-key=now_s]").textContent) === now"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.prove_all)])
def test_in_a_browser_a_fault_is_played_with_the_keyboard_alone(
    showing: Callable[[str], Any], server: tuple[str, Any], width: int
) -> None:
    _, _, tell = server
    page = showing("running")
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
    slow.click()
    page.keyboard.press("Enter")
    page.locator("#ask-error", has_text="no test system").wait_for(timeout=30_000)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Heal everything").click()
    page.locator("#said", has_text="no test system").wait_for(timeout=30_000)
    assert page.get_by_role("button", name="Heal everything").evaluate("e => e.getBoundingClientRect().top < 200")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


AGED = re.compile(r"\s+\d+ s$")
"""What stands behind a figure: how old it is."""


def card(page: Any, name: str) -> list[str]:
    """What the picture says of a link or a service below its name; figures are followed by a star for their age."""
    lines = page.get_by_role("group", name=name, exact=True).locator("p").all_inner_texts()[1:]
    return [AGED.sub(" *", line) for line in lines]


@pytest.mark.browser
def test_in_a_browser_each_link_says_what_its_probe_saw_and_how_long_ago(showing: Callable[[str], Any]) -> None:
    page = showing("running")
    links = ("publisher-redis", "gateway-redis", "producer-redis", "gateway-postgres", "producer-postgres")
    assert {link: card(page, f"link {link}") for link in links} == {
        "publisher-redis": ["100/s published *", "1.20 ms *", "open"],
        "gateway-redis": ["rate not measured", "refused *", "refused"],  # without a fault in force
        "producer-redis": ["rate not measured", "700 µs *", "not known"],  # too old to say how it is
        "gateway-postgres": ["rate not measured", "no answer *", "not known"],
        "producer-postgres": ["rate not measured", "delay not measured", "not known"],
    }
    assert card(page, "gateway") == ["12.3 MB, 7 % CPU *", "health in 2.50 ms *", ""]


@pytest.mark.browser
def test_in_a_browser_every_figure_of_a_run_has_its_age_or_is_a_dash(showing: Callable[[str], Any]) -> None:
    page = showing("running")
    keys = page.locator(".key:visible").all_inner_texts()
    assert len(keys) == 10
    assert [key for key in keys if not AGED.search(key) and not key.endswith("–")] == []
    assert re.search(r"told \d+ s ago; latency .* the second that ended \d+ s ago\.$", page.inner_text("#as-of"))
    assert {row.split()[-1] for row in page.locator("#processes tr").all_inner_texts()} <= {"ago", "–"}


@pytest.mark.browser
def test_in_a_browser_nothing_from_before_a_cut_stands_as_if_it_were_of_now(showing: Callable[[str], Any]) -> None:
    page = showing("cut")
    assert card(page, "link client-gateway") == ["–", "–", "cut"]  # 3,400/s and 5.07 ms were a second ago
    assert page.inner_text("#phase") == "fault now: slow-clients"


@pytest.mark.browser
def test_in_a_browser_a_dead_gateway_has_no_figures_and_no_link_to_it_is_open(showing: Callable[[str], Any]) -> None:
    page = showing("dead")
    assert card(page, "gateway") == ["–", "no good answer *", "ended by SIGKILL"]
    for link in ("client-gateway", "gateway-redis", "gateway-postgres"):
        rate, _, state = card(page, f"link {link}")
        assert (rate in ("–", "rate not measured"), state) == (True, "gateway is down"), link
    assert card(page, "link publisher-redis")[-1] == "open"


@pytest.mark.browser
def test_in_a_browser_after_the_end_there_is_nothing_of_now_and_the_totals_agree(showing: Callable[[str], Any]) -> None:
    page = showing("done")
    assert not page.is_visible("#pipeline")
    assert not page.is_visible("#heal-all")
    assert page.inner_text("#when") == "At the end"
    keys = ("owed", "delivered", "lost_so_far", "overdue", "unseen")
    owed, *parts = (int(page.inner_text(f"[data-key={key}]").replace(",", "")) for key in keys)
    assert (owed, parts) == (sum(parts), [842_088, 12, 0, 0])
    assert page.locator(".key b").count() == 10
    assert "".join(page.locator(".key b, .key small").all_inner_texts()) == ""
    assert page.locator(".numbers > div:visible", has_text="latency").count() == 0, "of which second?"
    assert " ago" not in page.inner_text("main")


@pytest.mark.browser
def test_in_a_browser_while_no_run_goes_on_one_can_be_started_and_past_ones_read(showing: Callable[[str], Any]) -> None:
    page = showing("idle")
    page.wait_for_selector("#profiles label")
    assert page.locator(".of-run:visible").count() == 0, "no empty panels"
    assert page.locator("#profiles label").all_inner_texts() == [
        "quick 52 users, 20 s\nDoes it work at all?",
        "burst 400 users, 75 s\nWhat does a <b>burst</b> of events do?",
        "broken\nrun.duration_s: found -1, allowed above 0",
    ]
    assert page.locator("#profiles :disabled").get_attribute("value") == "broken"
    assert page.locator("#runs tr").all_inner_texts() == [
        "20260105-093012-resilience-7f3a\t✖ FAIL\t12 <i>lost</i>",
        "20260104-101500-burst-11aa\t✔ PASS\tall 47 checks passed",
        "20260103-120000-burst-22bb\tnot judged\ttickstorm analyze 20260103-120000-burst-22bb",
    ]
    sent: list[str] = []

    def swarm(route: Any) -> None:
        sent.append(route.request.post_data)
        route.fulfill(json={"success": False, "message": "no worker is connected"})

    page.route("**/swarm", swarm)
    page.click("#start-now")
    page.locator("#start-said", has_text="Not started: no worker is connected").wait_for(timeout=10_000)
    page.check("[value=quick]")
    page.click("#start-now")
    page.wait_for_function("() => !document.getElementById('start-now').disabled")
    assert sent == ["run_profile=burst", "run_profile=quick"], "what it began with, and what was chosen"
    page.unroute("**/swarm")
    assert showing("preparing").locator(".of-run:visible, #between:visible").count() == 0
    showing("problem")
    page.locator("#start-said", has_text="The last start came to nothing: redis: nobody listens").wait_for(
        timeout=9_000
    )
    assert page.get_attribute("#runs a", "href") == "tickstorm/reports/20260105-093012-resilience-7f3a/report.html"


@pytest.mark.browser
def test_in_a_browser_each_kind_of_fault_has_a_sentence_and_a_refused_one_no_button(
    showing: Callable[[str], Any],
) -> None:
    page = showing("running")
    page.click("#other")
    kinds = page.locator("#ask-fields [name=kind] option")
    assert set(kinds.evaluate_all("all => all.map((o) => o.value)")) == set(KINDS)
    assert kinds.evaluate_all("all => all.filter((o) => o.disabled).map((o) => o.text)") == [
        "kill: refused",
        "pause: refused",
    ]
    for kind in set(KINDS) - {"kill", "pause"}:
        page.select_option("#ask-fields [name=kind]", kind)
        assert re.fullmatch(r"[A-Z][^.]+\.", page.inner_text("#ask-help")), kind
        assert page.is_enabled("#ask-play")
    page.keyboard.press("Escape")
    kill = page.get_by_role("button", name="kill redis")
    assert kill.is_disabled()
    assert kill.get_attribute("title") == "it is destructive, and this is no test system"
    assert "in this run: kill, pause. It is destructive" in page.inner_text("#refused")


SILENT = "() => document.querySelector('.page.gone')"


@pytest.mark.browser
def test_in_a_browser_without_an_answer_the_picture_is_grey_and_aged_until_one_comes(
    showing: Callable[[str], Any],
) -> None:
    page = showing("running")
    page.route("**/live.json*", lambda route: route.abort())
    page.wait_for_function(SILENT, timeout=20_000)
    gone = page.inner_text("#gone")
    assert re.search(r"No answer from Locust\. What stands below is \d+ s old\.", gone)
    assert "tickstorm stack heal" in gone
    assert page.inner_text("#word") == "no answer from Locust"
    assert {card(page, f"link {link}")[-1] for link in LINKS} == {"not known"}
    assert page.evaluate("getComputedStyle(document.querySelector('#pipeline')).filter") == "grayscale(1)"
    assert page.locator("#pipeline button:enabled, #heal-all:enabled, #note button:enabled").count() == 0
    page.set_viewport_size({"width": 390, "height": 900})  # the picture is drawn anew
    page.wait_for_function("() => document.querySelector('#picture svg').viewBox.baseVal.width === 360")
    assert page.locator("#pipeline button:enabled").count() == 0
    page.unroute("**/live.json*")
    page.wait_for_function("() => !document.querySelector('.page.gone')", timeout=20_000)
    assert page.inner_text("#word") == "running"
    assert page.is_enabled("#heal-all")


@pytest.fixture
def behind(shared: tuple[str, str, Callable[[str], None]]) -> Iterator[tuple[str, list[str]]]:
    """A proxy that puts a path before ours: its address, and what it was asked for outside of that path."""
    host, strays = shared[0].removeprefix("http://"), []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/deep/down/"):
                strays.append(self.path)
                self.send_error(404)
                return
            connection = HTTPConnection(host, timeout=30)
            connection.request("GET", self.path.removeprefix("/deep/down"), headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Type", "Location", "Set-Cookie"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/deep/down", strays
        server.shutdown()
        thread.join()


@pytest.mark.prove_all
@pytest.mark.browser
def test_in_a_browser_all_pages_hold_together_behind_a_path_of_a_proxy(
    chromium: Any, server: tuple[str, str, Callable[[str], None]], behind: tuple[str, list[str]]
) -> None:
    (_, token, tell), (address, strays) = server, behind
    tell("done")
    page = chromium.new_page()
    page.goto(f"{address}/?token={token}")
    page.get_by_role("link", name="Tickstorm live page").click()
    page.wait_for_selector("#report-link", state="visible", timeout=30_000)
    page.wait_for_selector("#runs a")
    assert page.url == f"{address}/tickstorm"
    page.get_by_role("link", name="Locust", exact=True).click()
    page.locator("#tickstorm-verdict", has_text="FAIL: open the report").wait_for(timeout=30_000)
    page.goto(f"{address}/stats/report")
    page.get_by_role("link", name="FAIL: open the report").wait_for(timeout=30_000)
    for where in ("tickstorm/report", "tickstorm/reports/20260105-093012-resilience-7f3a/report.html"):
        page.goto(f"{address}/{where}")
        assert page.title() == "the report"
    page.close()
    assert [path for path in strays if "favicon" not in path] == []  # Locust's own report misses its icon


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
    page.close()
