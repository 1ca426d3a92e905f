"""Does the web UI start, show, stop and repeat runs, with the verdict that a headless run has?  All in one process."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import texts
from launching import PAGE, Bench, Run, Started, free_port, get, post, until

from loadtests.harness.files import shipped_profiles
from proof.account import token_of

pytestmark = [pytest.mark.e2e, pytest.mark.group("WEB")]
OWED = texts.PUBLISHED * texts.CONSUMERS


@dataclass(kw_only=True)
class Web:
    """Locust's web UI with Tickstorm in it."""

    url: str
    child: Started
    bench: Bench
    profile: str
    seen: list[dict[str, Any]] = field(default_factory=list)

    def live(self) -> dict[str, Any]:
        found: dict[str, Any] = get(f"{self.url}/tickstorm/live.json")
        self.seen.append(found)
        return found

    def start(self, **form: str) -> dict[str, Any]:
        """Press start, with what the form sends."""
        self.seen.clear()
        found: dict[str, Any] = self.post("/swarm", {"host": "", "run_set": "", "run_seed": "", **form})
        return found

    def refuses(self, text: str, **form: str) -> None:
        """Such a form is answered with a text, and starts nothing."""
        answer = self.start(**form)
        assert answer["success"] is False
        assert text in answer["message"]
        assert self.live()["state"] == "idle"

    def post(self, path: str, form: dict[str, str]) -> Any:
        return post(self.url + path, form, token=self.token)

    @property
    def token(self) -> str:
        """What the terminal printed."""
        return token_of(self.child.said)

    @property
    def address(self) -> str:
        """As it was printed."""
        return f"{self.url}/?token={self.token}"

    def until(self, state: str, timeout_s: float = 60) -> dict[str, Any]:
        found: dict[str, Any] = until(
            lambda: live if (live := self.live())["state"] == state else None, timeout_s, f"{state}:\n{self.child.said}"
        )
        return found

    def until_free(self) -> None:
        """Locust itself has stopped its users: the next run may start."""
        free = ("ready", "stopped")
        until(lambda: get(f"{self.url}/stats/requests")["state"] in free, 20, f"stopped:\n{self.child.said}")

    def counts(self) -> dict[tuple[str, str], int]:
        """Locust's own requests, as its page shows them."""
        stats = get(f"{self.url}/stats/requests")["stats"]
        return {(s["method"] or "", s["name"]): s["num_requests"] for s in stats}


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read(), "utf-8")


def is_up(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200  # type: ignore[no-any-return]
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture(scope="module")
def web(bench: Bench) -> Iterator[Web]:
    port, profile = free_port(), bench.profile(texts.CALM, "calm")
    child = bench.locust("--web-host", "127.0.0.1", "--web-port", str(port), TICKSTORM_PROFILE=profile, **PAGE)
    url = f"http://127.0.0.1:{port}"
    until(lambda: is_up(url) or child.process.poll() is not None, 30, f"the web UI:\n{child.said}")
    yield Web(url=url, child=child, bench=bench, profile=profile)
    child.end()


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"run_profile": "no-such-profile"}, "there is no such profile"),
        ({"run_profile": "locust-quick", "run_set": "run.duration_s=-1"}, "run.duration_s"),
        ({"run_profile": "locust-quick", "run_set": "nonsense"}, "nonsense"),
        ({"run_profile": "locust-quick", "run_seed": "soon"}, "seed"),
        ({"run_profile": "locust-quick", "user_count": "1"}, "users: found 1, allowed from 3"),
        ({"run_profile": "locust-quick", "user_count": "52.5"}, 'users: found "52.5", allowed is a whole number'),
        ({"run_profile": "locust-quick", "spawn_rate": "2"}, "ramp up: found 2 users/s, allowed from 3.5: 52 users"),
        ({"run_profile": "locust-quick", "spawn_rate": "nan"}, 'ramp up: found "nan", allowed is a number above 0'),
        ({"run_profile": "locust-quick", "host": "http://127.0.0.1:1"}, 'allowed is "the local stack" or none'),
        ({"run_profile": "locust-quick", "profile": "burst"}, 'profile: found "locust-quick" and "burst"'),
        ({"profile": "nightly"}, "nightly: there is no such profile in a form"),
    ],
)
def test_a_bad_form_is_answered_with_its_problem_and_starts_nothing(web: Web, form: dict[str, str], text: str) -> None:
    web.refuses(text, **form)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run that was started in the web UI, and what was to be seen of it."""

    answer: dict[str, Any]
    at_once: str  # Locust's state, asked as soon as it had answered
    seen: list[dict[str, Any]]
    done: dict[str, Any]
    counts: dict[tuple[str, str], int]
    run: Run


@pytest.fixture(scope="module")
def shown(web: Web) -> Shown:
    answer = web.start(run_profile=web.profile)
    at_once = get(f"{web.url}/stats/requests")["state"]
    done = web.until("done")
    counts = web.counts()
    web.until_free()
    return Shown(
        answer=answer,
        at_once=at_once,
        seen=list(web.seen),
        done=done,
        counts=counts,
        run=Run(web.bench.reports / done["run"]),
    )


def test_a_run_started_in_the_form_ends_with_the_verdict_of_a_headless_one(shown: Shown, web: Web) -> None:
    assert shown.answer["success"] is True
    assert (shown.done["verdict"], shown.run.results["verdict"]) == ("PASS", "PASS"), shown.done["reasons"]
    found = shown.run.results["delivery"]
    assert (found["published"], found["owed"], found["unique"], found["lost"]["total"]) == (
        texts.PUBLISHED, OWED, OWED, 0,
    )  # fmt: skip
    assert shown.run.results["run"]["finish"] == "plan done"
    with urllib.request.urlopen(f"{web.url}{shown.done['report']}", timeout=10) as answer:
        assert answer.read() == (shown.run.folder / "report.html").read_bytes()


def test_who_is_told_that_a_run_started_never_reads_that_none_is_on(shown: Shown) -> None:
    assert shown.at_once in ("spawning", "running")


def test_locusts_own_report_has_the_verdict_also_where_it_was_downloaded(shown: Shown, web: Web) -> None:
    run = shown.run.folder.name
    for query, place in (("", f'href="..{shown.done["report"]}"'), ("?download=1", f"reports/{run}/report.html")):
        page = read(f"{web.url}/stats/report{query}")
        assert "verdict of this run: <b>PASS</b>" in page
        assert place in page
    assert shown.run.results["reasons"][0] in page
    assert "Profile" in page
    with urllib.request.urlopen(f"{web.url}/tickstorm/report", timeout=10) as answer:
        assert answer.url == web.url + shown.done["report"]


def test_the_live_value_follows_the_run(shown: Shown) -> None:
    states = list(dict.fromkeys(live["state"] for live in shown.seen))
    assert states[-3:] == ["draining", "judging", "done"]
    assert "running" in states
    phases = list(dict.fromkeys(live["phase"] for live in shown.seen))
    assert [p for p in ("warm-up", "baseline", "drain") if p in phases] == ["warm-up", "baseline", "drain"]
    owed = [live["owed"] for live in shown.seen if live["run"] == shown.run.folder.name]
    assert owed == sorted(owed)
    assert len(set(owed)) > 3
    assert (shown.done["owed"], shown.done["delivered"], shown.done["published"]) == (OWED, OWED, texts.PUBLISHED)


def test_locusts_own_page_has_the_true_counts(shown: Shown) -> None:
    received = {name: count for (method, name), count in shown.counts.items() if name.startswith("receive ")}
    assert received == {"receive patterns/plain": OWED // 2, "receive patterns/browsers": OWED // 2}
    assert shown.counts["PUBLISH", "tickstock.events.patterns"] == texts.PUBLISHED


@pytest.fixture(scope="module")
def stopped(shown: Shown, web: Web) -> Run:
    assert web.start(run_profile=web.profile, run_set="run.duration_s=60")["success"] is True
    until(lambda: (live := web.live())["phase"] == "baseline" and live["delivered"] > 0, 40, "the baseline")
    web.post("/stop", {})
    done = web.until("done")
    web.until_free()
    assert done["run"] != shown.done["run"]
    return Run(web.bench.reports / done["run"])


def test_the_stop_button_ends_a_second_run_as_aborted_with_a_report(stopped: Run) -> None:
    results = stopped.results
    assert results["verdict"] == "ABORTED"
    assert results["run"]["finish"] == "stop button"
    assert (stopped.folder / "report.html").stat().st_size > 10_000
    assert results["delivery"]["unique"] == results["delivery"]["owed"] > 0


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A run whose number of users was changed in its middle, and what each change was answered with."""

    answers: dict[int, dict[str, Any]]
    run: Run


@pytest.fixture(scope="module")
def edited(stopped: Run, web: Web) -> Edited:
    assert web.start(run_profile=web.profile, run_set="run.duration_s=8; guard.undecided_share=0.05")["success"] is True
    until(lambda: (live := web.live())["phase"] == "baseline" and live["delivered"] > 0, 40, "the baseline")
    everybody = texts.CONSUMERS + texts.PUBLISHERS
    answers = {
        users: web.post("/swarm", {"host": "", "user_count": str(users), "spawn_rate": "100"})
        for users in (1, texts.PUBLISHERS, everybody + 20, everybody - 7)
    }
    until(lambda: web.live()["connected"] == texts.CONSUMERS - 7, 20, "seven consumers have left")
    done = web.until("done")
    web.until_free()
    return Edited(answers=answers, run=Run(web.bench.reports / done["run"]))


@pytest.mark.prove_all
def test_a_smaller_number_of_users_takes_consumers_away_and_the_verdict_names_it(edited: Edited) -> None:
    results = edited.run.results
    everybody = texts.CONSUMERS + texts.PUBLISHERS
    assert edited.answers[everybody - 7]["success"] is True
    assert results["verdict"] == "PASS", results["reasons"]
    assert results["delivery"]["published"] == texts.PUBLISHERS * 10 * 9
    assert results["delivery"]["lost"]["total"] == 0
    assert any(reason.startswith("3 consumers instead of 10 from") for reason in results["reasons"])


@pytest.mark.prove_all
def test_a_number_of_users_that_no_consumers_make_is_refused_in_a_sentence(edited: Edited) -> None:
    everybody = texts.CONSUMERS + texts.PUBLISHERS
    for users in (1, texts.PUBLISHERS, everybody + 20):
        assert edited.answers[users]["success"] is False
        assert f"users: found {users}, allowed while this run goes on is 5 to 14" in edited.answers[users]["message"]


STATUS = """() => ({
  status: (document.querySelector("header.MuiAppBar-root")?.innerText.match(/Status\\s+(\\w+)/) || [])[1] || "",
  form: Boolean(document.querySelector("main form")),
  rows: [...document.querySelectorAll("main tbody tr")].map((row) => row.innerText.replaceAll("\\t", " ")),
})"""
"""What Locust's own page shows: its status, whether it is the start form, the lines of its table."""
COVERED = """() => {
  const ours = document.getElementById("tickstorm").getBoundingClientRect(), root = document.getElementById("root");
  return [ours.bottom <= root.getBoundingClientRect().top, document.documentElement.scrollWidth <= innerWidth,
          [...document.querySelectorAll("#tickstorm a:not([hidden])")].every((link) => {
            const box = link.getBoundingClientRect();
            return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === link;
          })];
}"""
"""Whether our strip ends where Locust's page begins, nothing is wider than the window, and our links can be clicked."""
WIDTHS = (1440, 390)


def opened(web: Web, chromium: Any) -> Any:
    """Locust's page with the token, as a window of the wider kind; its context is its own."""
    page = chromium.new_context(viewport={"width": WIDTHS[0], "height": 900}).new_page()
    page.goto(web.address)
    return page


def fields(page: Any) -> tuple[str, ...]:
    """Users, ramp-up and host of the form that is open."""
    return tuple(page.input_value(f"input[name={name}]") for name in ("userCount", "spawnRate", "host"))


def start(page: Any, profile: str) -> None:
    """Choose a profile and press Start, in the start form or in the dialog of a later one."""
    new = page.get_by_role("button", name="New")
    page.locator("main form").or_(new).first.wait_for(timeout=20_000)
    if new.count():
        new.click()
    page.select_option("select[name=runProfile]", profile)
    page.get_by_role("button", name="Start", exact=True).click()


@pytest.mark.browser
def test_in_a_browser_a_profile_is_chosen_a_run_started_and_its_verdict_opens_the_report(
    stopped: Run, web: Web, chromium: Any, tmp_path: Path
) -> None:
    page = opened(web, chromium)
    page.get_by_role("button", name="New").click()
    page.wait_for_selector("select[name=runProfile]")
    assert page.locator("select[name=runProfile] option").all_inner_texts() == [*shipped_profiles(), "calm"]
    assert page.locator("[name=profile]").count() == 0, "there is one choice"

    page.select_option("select[name=runProfile]", "burst")
    page.wait_for_function("() => document.querySelector('input[name=userCount]').value === '10'", timeout=5_000)
    assert "thousand events at once" in page.inner_text(".tickstorm-choice .question")
    assert "10 users (8 consumers, 2 others)" in page.inner_text(".tickstorm-choice")
    page.fill("input[name=spawnRate]", "0.1")
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator(".MuiAlert-root", has_text="ramp up: found 0.1 users/s, allowed from 0.7").wait_for(timeout=10_000)

    page.select_option("select[name=runProfile]", web.profile)
    page.wait_for_function("() => document.querySelector('input[name=userCount]').value === '14'", timeout=5_000)
    page.wait_for_function("() => document.querySelector('input[name=spawnRate]').value === '100'", timeout=5_000)
    assert fields(page) == ("14", "100", "the local stack")
    page.screenshot(path=str(tmp_path / "form.png"), full_page=True)
    page.get_by_role("button", name="Start", exact=True).click()

    page.get_by_role("button", name="Edit").click(timeout=20_000)
    page.locator(".tickstorm-choice", has_text="From 5 to 14 users").wait_for(timeout=10_000)
    page.wait_for_function("() => document.querySelector('input[name=userCount]').value === '14'", timeout=5_000)
    page.fill("input[name=userCount]", "99")
    page.get_by_role("button", name="Update").click()
    page.locator("#tickstorm-refusal", has_text="users: found 99, allowed while this run").wait_for(timeout=10_000)

    verdict = page.locator("#tickstorm-verdict", has_text="PASS: open the report")
    verdict.wait_for(timeout=60_000)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(COVERED) == [True, True, True], width
        page.screenshot(path=str(tmp_path / f"done-{width}.png"), full_page=True)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.get_by_role("tab", name="Download Data").click()
    page.get_by_role("link", name="Open Tickstorm's report (PASS)").wait_for(timeout=10_000)
    page.goto(f"{web.url}/stats/report?theme=dark")
    page.get_by_role("heading", name="verdict of this run: PASS").wait_for(timeout=10_000)
    page.get_by_role("link", name="PASS: open the report").click()
    page.wait_for_function("() => document.documentElement.dataset.drawn === 'true'", timeout=40_000)
    assert "calm" in page.title()
    page.context.close()
    web.until_free()


@pytest.mark.browser
def test_in_a_browser_the_link_leads_to_the_live_page(web: Web, chromium: Any) -> None:
    page = opened(web, chromium)
    page.get_by_text("Tickstorm live page").click()
    page.wait_for_selector("#report-link", state="visible", timeout=60_000)
    assert page.inner_text("[data-key='owed']") == page.inner_text("[data-key='delivered']") == f"{OWED:,}"
    page.context.close()


@pytest.mark.prove_all
@pytest.mark.browser
@pytest.mark.timeout(400)
def test_ten_starts_in_a_row_never_show_that_no_run_is_on_nor_the_figures_of_the_one_before(
    web: Web, chromium: Any
) -> None:
    page = opened(web, chromium)
    for number in range(10):
        start(page, web.profile)
        page.get_by_role("button", name="Stop").wait_for(timeout=20_000)
        begun, fell_back, old = time.monotonic(), [], []
        while time.monotonic() - begun < 5:
            seen = page.evaluate(STATUS)
            if seen["form"] or seen["status"].upper() in ("READY", "STOPPED"):
                fell_back.append(seen["status"] or "form")
            if number and time.monotonic() - begun < 1 and any("receive" in row for row in seen["rows"]):
                old.append(seen["rows"])
        assert not fell_back, number
        assert not old, number
        web.until("done")
        page.get_by_role("button", name="New").wait_for(timeout=20_000)
    page.context.close()


def test_at_the_end_nothing_is_left_running(stopped: Run, web: Web) -> None:
    web.child.signal(signal.SIGINT)
    web.child.wait(60)
    assert web.child.nothing_left()
    assert "Traceback" not in web.child.said
