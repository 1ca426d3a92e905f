"""A real web UI of Locust with the live page in it; as a program it is told on its input what the run has come to.

`running` begins it anew, `cut` is a cut of a second ago, `dead` a gateway that ended by itself, `done` a verdict,
`idle` forgets the run, `preparing` and `problem` are a start and what it came to, `healing` is a recovery, `refuse`
refuses all that is asked until the next word; each word is said again once it holds, and the end of the input ends
the program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loadtests.model.live import (
    Between,
    Live,
    LiveFault,
    LiveLink,
    LiveNote,
    LiveService,
    OfferedProfile,
    PastRun,
)
from loadtests.model.profile.manual_fault import ManualFaultRefused
from loadtests.model.stackwire import LINKS, SERVICES

PROBES: dict[str, dict[str, Any]] = {
    "publisher-redis": {"probe": "answer", "probe_ms": 1.2, "probe_age_s": 0.4},
    "gateway-redis": {"probe": "refused", "probe_age_s": 0.4},
    "producer-redis": {"probe": "answer", "probe_ms": 0.7, "probe_age_s": 5.2},
    "gateway-postgres": {"probe": "silent", "probe_age_s": 9.0},
    "client-gateway": {"probe": "answer", "probe_ms": 402.0, "probe_age_s": 0.4},
}
"""What the injector's pings saw; the link that is left out was never asked."""


BETWEEN = Between(
    chosen="burst",
    profiles=[
        OfferedProfile(name="quick", label="quick", question="Does it work at all?", users=52, plan_s=20),
        OfferedProfile(
            name="burst", label="burst", question="What does a <b>burst</b> of events do?", users=400, plan_s=75
        ),
        OfferedProfile(name="broken", label="broken", problem="run.duration_s: found -1, allowed above 0"),
    ],
    runs=[
        PastRun(
            run="20260105-093012-resilience-7f3a",
            profile="resilience",
            verdict="FAIL",
            reason="12 <i>lost</i>",
            page=True,
        ),
        PastRun(run="20260104-101500-burst-11aa", profile="burst", verdict="PASS", reason="all 47 checks passed"),
        PastRun(run="20260103-120000-burst-22bb"),
    ],
)


def running(now: float = 42.0) -> Live:
    """A run in its first fault."""
    t = [float(i) for i in range(int(now))]
    cut = [30 <= x < 35 for x in t]
    return Live(
        run="20260105-093012-resilience-7f3a",
        profile="resilience",
        state="running",
        phase="recovery",
        now_s=now,
        plan_s=128.0,
        planned=200,
        connected=198,
        publishing=4,
        published=4211,
        owed=842_200,
        delivered=741_822,
        lost_so_far=811,
        overdue=378,
        unseen=100_000,
        age_s=1.2,
        read_age_s={"gateway": 0.4, "redis": 0.6},
        latency_ms={"p50": 1.51, "p95": 3.4, "p99": None},
        memory_mb={"gateway": 82.4, "redis": 12.3},
        cpu_percent={"gateway": 23.1, "worker 1": 41.0},
        faults=[
            LiveFault(
                name="redis-cut",
                kind="down",
                link="gateway-redis",
                state="healed",
                from_s=30.0,
                to_s=35.0,
                proved=True,
                fresh=200,
                fresh_s=36.2,
                limit_s=30.0,
            ),
            LiveFault(
                name="slow-clients",
                kind="latency",
                link="client-gateway",
                state="active",
                from_s=40.1,
                to_s=None,
                proved=None,
                by_hand=True,
                plan_from_s=40.0,
                plan_to_s=50.0,
                asked={"latency_ms": 200},
                effective={"latency_ms": 201.4},
            ),
            LiveFault(
                name="later",
                kind="kill",
                link="gateway",
                state="planned",
                from_s=None,
                to_s=None,
                proved=None,
                plan_from_s=90.0,
                plan_to_s=92.0,
            ),
        ],
        links=[
            LiveLink(
                name=name,
                client=name.rpartition("-")[0],
                server=name.rpartition("-")[2],
                rate_per_s=100.0 if name == "publisher-redis" else None,
                rate_is="published" if name == "publisher-redis" else "",
                age_s=1.2,
                **PROBES.get(name, {}),
            )
            for name in LINKS
        ],
        services=[
            LiveService(
                name=name,
                memory_mb=12.3,
                cpu_percent=7.0,
                read_age_s=0.4,
                **({"health_ms": 2.5, "healthy": True, "health_age_s": 0.8} if name == "gateway" else {}),
            )
            for name in SERVICES
        ],
        refused=dict.fromkeys(("kill", "pause"), "it is destructive, and this is no test system"),
        consumers=["plain"],
        publishers=["detector"],
        notes=[LiveNote(at_s=12.0, text="<i>now</i> with the new build")],
        series={
            "t": list(t),
            "published": [100.0 for _ in t],
            "delivered": [0.0 if c else 20_000.0 + i % 7 * 90 for i, c in enumerate(cut)],
            "unseen": [i * 200.0 if c else 30.0 for i, c in enumerate(cut)],
            "connected": [198.0 for _ in t],
            "p50": [None if c else 1.5 for c in cut],
            "p95": [None if c else 3.4 + i % 5 / 4 for i, c in enumerate(cut)],
            "p99": [None if c else 7.0 + i % 9 / 3 for i, c in enumerate(cut)],
            "memory_mb:gateway": [80 + x / 20 if int(x) % 2 else None for x in t],
            "memory_mb:redis": [12.3 for _ in t],
            "cpu:gateway": [22.0 + i % 4 for i, _ in enumerate(t)],
        },
        trouble=["worker 1, 12.0 s: hub lag 214 ms <b>above</b> 200 ms"],
    )


class FakeHands:
    """Hears what the page asks for; refuses on demand."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.refusal: ManualFaultRefused | None = None

    def _do(self, what: str, value: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((what, value))

    def begin(self, asked: Mapping[str, Any]) -> str:
        self._do("begin", dict(asked))
        return "by-hand-1"

    def end(self, fault: str) -> list[str]:
        self._do("end", fault)
        return [fault]

    def end_all(self, *, place: str = "", plan: bool = False) -> list[str]:
        self._do("end_all", (place, plan))
        return ["slow-clients"]

    def note(self, text: object) -> None:
        self._do("note", text)


class Served:
    """A real web UI of Locust whose live value a test may change."""

    def __init__(self, folder: Path, **web: Any) -> None:
        from locust.env import Environment

        self.live, self.manual = running(), FakeHands()
        self.reports = {"20260105-093012-resilience-7f3a": folder / "report.html"}
        (folder / "report.html").write_text(
            "<!doctype html><link rel=icon href=data:,><title>the report</title>", encoding="utf-8"
        )
        self.environment = Environment(user_classes=[])
        self.environment.create_local_runner()
        self.ui = self.environment.create_web_ui("127.0.0.1", 0, delayed_start=True, **web)
        from loadtests.harness.web_ui import decorate
        from loadtests.webui.access_guard import AccessGuard
        from loadtests.webui.live_page import attach_page

        self.guard = AccessGuard(bound="127.0.0.1", port=0, login="/login")
        self.guard.attach(self.ui.app)

        attach_page(self.environment, lambda since_s: self.live, self.reports.get, self.manual, lambda: BETWEEN)
        decorate(self.environment, list, self.state)

    def state(self) -> dict[str, Any]:
        """What the strip above Locust's page is told."""
        live = msgspec.structs.asdict(self.live)
        return {key: live[key] for key in ("profile", "state", "run", "verdict", "reasons", "report")} | {
            "question": "?"
        }

    @property
    def client(self) -> Any:
        return self.ui.app.test_client()  # type: ignore[union-attr]

    def start(self) -> str:
        """Serve; returns the address."""
        import gevent

        self.ui.start()
        with gevent.Timeout(10):
            while self.ui.server is None or not self.ui.server.started:
                gevent.idle()
        return f"http://127.0.0.1:{self.ui.server.server_port}"

    def close(self) -> None:
        if self.ui.server is not None:
            self.ui.stop()
        self.environment.runner.quit()  # type: ignore[union-attr]


def finished() -> Live:
    """The same run after its verdict."""
    return msgspec.structs.replace(
        running(128.0),
        state="done",
        verdict="FAIL",
        reasons=["12 lost"],
        report="/tickstorm/reports/20260105-093012-resilience-7f3a/report.html",
        phase="end",
        judged=True,
        owed=842_100,
        delivered=842_088,
        lost_so_far=12,
        overdue=0,
        unseen=0,
    )


def cut() -> Live:
    """The same run a second after its link to the gateway was cut by hand: whatever was counted is from before."""
    live = running(43.0)
    fault = msgspec.structs.replace(live.faults[1], kind="down", link="client-gateway", from_s=42.0, asked={})
    links = [
        msgspec.structs.replace(
            link, rate_per_s=3400.0, rate_is="received", delay_ms=5.07, delay_is="p50", probe_age_s=1.4
        )
        if link.name == "client-gateway"
        else link
        for link in live.links
    ]
    fault = msgspec.structs.replace(fault, effective={})
    return msgspec.structs.replace(live, phase="fault", links=links, faults=[live.faults[0], fault, live.faults[2]])


def dead() -> Live:
    """The same run when its gateway has ended by itself; the links were open when they were last asked."""
    live = running(44.0)
    gateway = LiveService(name="gateway", ended="ended by SIGKILL", healthy=False, health_age_s=0.5)
    links = [
        msgspec.structs.replace(link, probe="answer", probe_ms=1.0, probe_age_s=0.4, rate_per_s=5899.0)
        for link in live.links
    ]
    services = [gateway if service.name == "gateway" else service for service in live.services]
    return msgspec.structs.replace(live, links=links, services=services, faults=[live.faults[0], live.faults[2]])


def healing() -> Live:
    """The same run when its second fault was healed a moment ago."""
    live = running(46.2)
    slow = msgspec.structs.replace(live.faults[1], state="healed", to_s=45.1, fresh=120, fresh_s=46.0, limit_s=30.0)
    return msgspec.structs.replace(live, faults=[live.faults[0], slow])


TOLD: dict[str, Callable[[], Live]] = {
    "running": running,
    "cut": cut,
    "dead": dead,
    "healing": healing,
    "done": finished,
    "idle": Live,
    "preparing": lambda: Live(state="preparing"),
    "problem": lambda: Live(problem="redis: nobody listens at 127.0.0.1:1"),
}


def main(folder: str) -> None:
    """Serve until the input ends; the first line of output is the address with the token."""
    from gevent.fileobject import FileObject

    sys.argv[1:] = []  # Locust reads the command line for its start form
    served = Served(Path(folder))
    print(f"{served.start()}/?token={served.guard.token}", flush=True)
    for line in FileObject(sys.stdin, "r"):
        word = line.strip()
        refusal = ManualFaultRefused("not allowed", "this is no test system") if word == "refuse" else None
        served.manual.refusal = refusal
        if word in TOLD:
            served.live = TOLD[word]()
        print(word, flush=True)
    served.close()


if __name__ == "__main__":
    main(sys.argv[1])
