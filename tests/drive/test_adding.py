"""Does a socket that cannot be taken over leave anything open?"""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from gevent import socket
from publish_servers import make_context
from receiving import profile

from loadtests.drive.consume.receiver import Receiver
from loadtests.model.profile.profile import Profile


def fails(*_: Any) -> NoReturn:
    raise OSError("no")


@pytest.mark.parametrize("where", ["adopt", "add"])
def test_a_socket_that_cannot_be_taken_over_leaves_no_account(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Profile.model_validate(profile([{"name": "c", "count": 1, "transport": "websocket"}]))
    context, _, _ = make_context(shape, ("127.0.0.1", 1))
    receiver = Receiver(context)
    try:
        monkeypatch.setattr(receiver.source, where, fails)
        mine, peer = socket.socketpair()
        peer.settimeout(10)
        if where == "add":
            monkeypatch.setattr(receiver.source, "adopt", lambda sock: sock)
        with peer:
            with pytest.raises(OSError, match="no"):
                receiver.add(mine, plan=context.contract.consumer(0), epoch=0, behind=b"")
            assert where == "adopt" or peer.recv(1) == b""
        assert len(receiver.accountant.kinship) == 0
        assert receiver.health().open == 0
    finally:
        receiver.close()
