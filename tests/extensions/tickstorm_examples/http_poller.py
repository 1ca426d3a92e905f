"""A user class: GET requests in open loop, to the page that the target names for its health."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

from loadtests.drive.open_loop import OpenLoop, RequestFailed
from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.model.contract import group_of
from loadtests.model.records import Requested
from loadtests.model.registry import USERS, groups_of
from loadtests.tally.publishing import RequestTally

TIMEOUT_S = 2.0


class HttpPoller(SlotUser):
    """One poller slot of the profile."""

    kind = "poller"

    def usable(self, context: RunContext) -> bool:
        """Whether the target has such a page."""
        return context.addresses.gateway_http is not None

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Ask until the plan is over, then hold the slot."""
        assert context.addresses.gateway_http is not None
        _, group = group_of(groups_of(context.profile, USERS[self.kind]), lease.slot)
        tally = RequestTally(lambda name, **cell: Requested(kind=self.kind, group=group.name, name=name, **cell))
        Polling(
            context,
            self.environment,
            slot=f"poller:{lease.slot}",
            rate_per_s=group.key("polls_per_s"),
            names=[group.key("path")],
            timeout_s=TIMEOUT_S,
            tally=tally,
            shown="GET",
        ).run()
        context.over.wait()


class Polling(OpenLoop):
    """Each request over a connection of its own."""

    def ask(self, name: str) -> None:
        """One GET, to the last byte of its answer."""
        assert self.context.addresses.gateway_http is not None
        connection = HTTPConnection(*self.context.addresses.gateway_http, timeout=TIMEOUT_S)
        began_ns = self.context.clock.now_ns()
        try:
            connection.connect()
            self.connected(name, self.context.clock.now_ns() - began_ns)
            connection.request("GET", name)
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            raise RequestFailed(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise RequestFailed(f"{answer.status} {answer.reason}")
