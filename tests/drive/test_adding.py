"""Does a socket that cannot be taken over leave anything open?  In a process of its own, because drive is patched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from receiving import RUN, profile

HERE = Path(__file__).parent

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import json, socket, sys
from loadtests.capture.clock import MonotonicClock
from loadtests.drive.receiver import Receiver
from loadtests.drive.wiring import Addresses, Wiring
from loadtests.model.contract import Contract
from loadtests.model.profile import Profile

where, found, run = sys.argv[1], Profile.model_validate_json(sys.argv[2]), sys.argv[3]
contract = Contract(found)
wiring = Wiring(run=run, profile=found, contract=contract, clock=MonotonicClock(0), emit=lambda record: None,
                slots=None, addresses=Addresses(redis=("127.0.0.1", 1), gateway=("127.0.0.1", 1), postgres=None),
                trouble=lambda begin, end, what: None)
receiver = Receiver(wiring)

def fails(*args):
    raise OSError("no")

setattr(receiver.source, where, fails)
mine, peer = socket.socketpair()
if where == "add":
    receiver.source.adopt = lambda sock: sock
plan = contract.consumer(0)
try:
    receiver.add(mine, plan=plan, epoch=0, behind=b"")
except OSError:
    print(json.dumps([len(receiver.accountant.kinship), receiver.health().open, peer.recv(1) == b"" if where == "add"
                      else True]))
receiver.close()
"""


@pytest.mark.parametrize("where", ["adopt", "add"])
def test_a_socket_that_cannot_be_taken_over_leaves_no_account(where: str) -> None:
    consumers = [{"name": "c", "count": 1, "transport": "websocket"}]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, where, json.dumps(profile(consumers)), RUN],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "[0, 0, true]", done.stderr
