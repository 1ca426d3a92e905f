"""What do Locust's pages say of what failed?  Words, few of them, with the time that it took, and as requests."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from locust.env import Environment
from locust.stats import StatsError

from loadtests.drive.consume.consumer import WebSocketClient
from loadtests.drive.consume.handshake import RefusedError, check
from loadtests.drive.locust_stats import ConnectFailed, PublishDisplay, connect_failure


def refused(answer: bytes) -> Exception:
    """What an answer to the upgrade is refused with."""
    with pytest.raises(RefusedError) as caught:
        check(answer, b"key")
    return caught.value


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refused(b"HTTP/1.1 503 Service Unavailable; come back later"), "connect refused: 503"),
        (refused(b"HTTP/1.1 401 Unauthorized"), "connect refused: 401"),
        (refused(b"SSH-2.0-OpenSSH_9.7"), "connect refused: upgrade answered"),
        (refused(b"HTTP/1.1 101 X\r\n<b>"), "connect refused: upgrade answered with a header that is none"),
        (ConnectionRefusedError(111, "Connection refused"), "connect refused: nobody listens there"),
        (ConnectionResetError(104, "Connection reset by peer"), "connect failed: Connection reset by peer"),
        (TimeoutError("not connected within 10 s"), "connect failed: not connected within 10 s"),
        (socket.gaierror(-2, "Name or service\x1b[2J not known"), "connect failed: Name or service\ufffd[2J not known"),
    ],
)  # fmt: skip
def test_why_no_connection_came_about_is_said_in_words_of_ours(error: Exception, words: str) -> None:
    assert connect_failure(error) == words


def test_locust_shows_the_words_alone() -> None:
    assert StatsError.parse_error(ConnectFailed("connect refused: 503")) == "connect refused: 503"


def test_a_failed_publish_is_a_request_and_a_refused_connection_has_its_time() -> None:
    environment, display = Environment(), PublishDisplay("PUBLISH")
    display.answered("c", 3_000_000, 5, 100)
    display.failed("c", "OOM", 2)
    display.failed("connect market", "connect refused: nobody listens there", 1, 47_000_000)
    display.merge_into(environment)
    sent, connect = (environment.stats.get(name, "PUBLISH") for name in ("c", "connect market"))
    assert (sent.num_requests, sent.num_failures, sent.avg_response_time) == (7, 2, 3)
    assert (connect.num_requests, connect.num_failures, connect.median_response_time) == (1, 1, 47)


def test_a_refused_client_is_a_request_of_its_transport_with_its_time() -> None:
    environment = Environment()
    runner = environment.create_local_runner()
    user: Any = SimpleNamespace(environment=environment)
    WebSocketClient._tell(user, "SIO", "browsers", 47_000_000, "connect refused: 503")
    WebSocketClient._tell(user, "SIO", "browsers", 5_000_000, "")
    row = environment.stats.get("connect browsers", "SIO")
    assert (row.num_requests, row.num_failures, row.min_response_time, row.max_response_time) == (2, 1, 5, 47)
    assert [error.serialize()["error"] for error in environment.stats.errors.values()] == ["connect refused: 503"]
    runner.quit()
