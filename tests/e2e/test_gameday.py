"""Can a user, and nobody else, break and heal a link in the browser, and find in the report what the page showed?"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import texts
from launching import PAGE, Bench, Run, free_port, until
from test_web import Web, is_up

from loadtests.model.records import FaultStep, Note

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(240), pytest.mark.group("PLAYED")]
GAMEDAY = texts.long(120).replace('name = "calm"', 'name = "gameday"').replace(
    "[guard]",
    """[steady]
hold_s = 1
delivery_min = 1.0
latency_add_ms = 2000

[recovery]
limit_s = 8

[guard]""",
)  # fmt: skip
FORGED = """<!doctype html><form method="post" enctype="text/plain" action="URL/tickstorm/fault">
<input name='{"kind":"down","link":"gateway-redis","for_s":5,"x":"' value='"}'><button>Win a prize</button></form>
<form method="post" action="URL/swarm"><input name="user_count" value="14"><button>Start a run</button></form>"""
REACHING_OVER = """async (url) => {
  const gained = {}, form = new URLSearchParams({user_count: "14", spawn_rate: "1"});
  const asks = {"/swarm": {method: "POST", body: form}, "/stop": {method: "POST"}, "/stats/requests": {}, "/logs": {}};
  for (const [path, how] of Object.entries(asks)) {
    const said = {credentials: "include", ...how};
    gained[path] = await fetch(url + path, said).then((answer) => answer.text(), () => "nothing");
    await fetch(url + path, {...said, mode: "no-cors"}).then((answer) => answer.type, () => "nothing").then((found) => {
      if (found !== "opaque" && found !== "nothing") gained[path] = found;
    });
  }
  for (const path of FRAMED) {
    const frame = document.createElement("iframe");
    const loaded = new Promise((done) => { frame.onload = done; setTimeout(done, 20000); });
    frame.src = url + path;
    document.body.append(frame);
    await loaded;
  }
  return gained;
}"""
"""What a page of another site comes by, with the user's cookies where the browser sends them."""
FRAMED = ["/", "/tickstorm", "/tickstorm/live.json"]
UNAGED = r"""() => [...document.querySelectorAll("#picture p, .key")].map((e) => e.innerText.trim())
  .filter((said) => /\d/.test(said.replace(/^p\d\d|^[a-z-]+-\d+|worker-\d+/, "")) && !/\s\d+ s$/.test(said))"""
"""What the picture and the keys of the timeline say with a figure that has no age behind it."""


@pytest.fixture(scope="module")
def web(bench: Bench) -> Iterator[Web]:
    port, profile = free_port(), bench.profile(GAMEDAY, "gameday")
    child = bench.locust("--web-host", "127.0.0.1", "--web-port", str(port), TICKSTORM_PROFILE=profile, **PAGE)
    url = f"http://127.0.0.1:{port}"
    until(lambda: is_up(url) or child.process.poll() is not None, 40, f"the web UI:\n{child.said}")
    yield Web(url=url, child=child, bench=bench, profile=profile)
    child.end()


@pytest.fixture
def elsewhere(web: Web) -> Iterator[str]:
    """Another site, with a form that posts to ours."""
    body = FORGED.replace("URL", web.url).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def seen(page: Any, text: str, timeout_s: float = 30) -> None:
    """The page says something of the faults that are on or were healed."""
    page.locator("#recovering li", has_text=text).first.wait_for(timeout=timeout_s * 1000)


def status_of(url: str, body: object, **headers: str) -> int:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_link_is_cut_healed_and_judged_by_hand(web: Web, chromium: Any, elsewhere: str, tmp_path: Path) -> None:
    browser = chromium.new_context(viewport={"width": 1280, "height": 1000})
    page = browser.new_page()
    page.goto(web.address)
    page.goto(f"{web.url}/tickstorm")
    assert web.start(run_profile=web.profile)["success"] is True
    page.wait_for_function("() => document.documentElement.dataset.shown === 'running'", timeout=60_000)
    until(lambda: web.live()["phase"] == "baseline" and web.live()["now_s"] > 3, 40, "the baseline")

    run = web.live()["run"]

    # Who may not: another site, and a script without the page's token.
    stranger = browser.new_page()  # where the user's cookies are
    stranger.goto(elsewhere)
    gained = stranger.evaluate(REACHING_OVER.replace("FRAMED", json.dumps(FRAMED)), web.url)
    assert gained == dict.fromkeys(("/swarm", "/stop", "/stats/requests", "/logs"), "nothing")
    refused = ["chrome-error://chromewebdata/"] * len(FRAMED)  # a frame has no address until its refusal is shown
    until(
        lambda: stranger.title() is not None and [frame.url for frame in stranger.frames[1:]] == refused, 20, "frames"
    )
    for text in ("Start a run", "Win a prize"):
        stranger.goto(elsewhere)
        with stranger.expect_navigation() as sent:
            stranger.click(f"text={text}")
        assert sent.value.status == 403
    stranger.close()
    assert web.live()["state"] == "running"
    assert web.live()["run"] == run
    fault = {"kind": "down", "link": "gateway-redis", "for_s": 5}
    assert status_of(f"{web.url}/tickstorm/fault", fault, **{"Content-Type": "application/json"}) == 403
    assert web.live()["faults"] == []

    # What the profile does not allow cannot be played, and the page says why.
    kill = page.get_by_role("button", name="kill redis")
    assert kill.is_disabled()
    assert "this kind is destructive, and the profile does not mark its target as a test system" in kill.get_attribute(
        "title"
    )

    # Cut: for a minute, so that it is our healing that ends it.
    page.click("[aria-label='cut gateway-redis']")
    page.fill("[name=for_s]", "60")
    page.keyboard.press("Enter")
    seen(page, "in force")
    page.locator("[aria-label='link gateway-redis'] em", has_text="cut").wait_for(timeout=10_000)
    unseen = "() => Number(document.querySelector('[data-key=unseen]').textContent.replaceAll(',', '')) > 100"
    page.wait_for_function(unseen, timeout=30_000)
    assert page.evaluate(UNAGED) == [], "figures without an age"
    assert web.live()["phase"] == "fault"
    page.screenshot(path=str(tmp_path / "cut.png"), full_page=True)

    page.fill("#note-text", "healed by us")
    page.keyboard.press("Enter")
    page.click("#heal-all")
    seen(page, "all 10 clients fresh")
    until(lambda: web.live()["phase"] == "baseline", 20, "the recovery ends where everybody is back")
    page.screenshot(path=str(tmp_path / "healed.png"), full_page=True)
    shown = next(f for f in web.live()["faults"] if f["name"] == "by-hand-1")
    assert (shown["state"], shown["by_hand"], shown["fresh"]) == ("healed", True, 10)
    until(lambda: web.live()["now_s"] > shown["fresh_s"] + 3, 20, "steady for the hold time")
    stop = threading.Thread(target=web.post, args=("/stop", {}))
    stop.start()  # Locust answers when the verdict is there
    done = web.until("done", 150)
    stop.join()

    # The report has the same fault with the same numbers.
    run = Run(web.bench.reports / done["run"])
    found = next(f for f in run.results["faults"] if f["name"] == "by-hand-1")
    assert (found["kind"], found["link"], found["proved"], found["lifted_by"]) == (
        "down",
        "gateway-redis",
        True,
        "by hand",
    )
    assert found["injected_s"] == pytest.approx(shown["from_s"], abs=0.002)
    assert found["healed_s"] == pytest.approx(shown["to_s"], abs=0.002)
    back = next(r for r in run.results["recovery"] if r["fault"] == "by-hand-1")
    assert back["consumers"]["first_fresh"]["max"] == pytest.approx(shown["fresh_s"] - shown["to_s"], abs=0.02)
    assert back["limit_s"] == 8
    assert back["recovery_s"] is not None
    assert run.results["delivery"]["lost"]["charged"] > 100
    assert run.results["delivery"]["lost"]["defect"] == 0
    assert any("healed by us" in line for line in run.results["log"])
    assert [note.text for note in run.of(Note) if note.by == "user"] == ["healed by us"]
    assert {step.name for step in run.of(FaultStep)} == {"by-hand-1"}

    page.wait_for_selector("#report-link", state="visible", timeout=30_000)
    delivery = run.results["delivery"]
    totals = {"owed": delivery["owed"], "delivered": delivery["delivered"], "lost_so_far": delivery["lost"]["total"]}
    assert {key: page.inner_text(f"[data-key={key}]") for key in totals} == {key: f"{n:,}" for key, n in totals.items()}
    page.click("#report-link")
    page.wait_for_function("() => document.documentElement.dataset.drawn === 'true'", timeout=40_000)
    assert "by-hand-1" in page.inner_text("#faults")
    assert page.evaluate("Tickstorm.named('faults').data.from.length") == 1
    assert page.evaluate("Tickstorm.named('notes').data.at.length") == 1
    page.screenshot(path=str(tmp_path / "report.png"), full_page=True)

    # Locust's own page says what failed in words.
    page.goto(f"{web.url}/?tab=failures")
    page.get_by_role("tab", name="Failures").click(timeout=20_000)
    page.get_by_text("message lost (gap in the stream)").first.wait_for(timeout=10_000)
    page.close()
