"""How does a TCP or TLS connection come about?  Every address of a name in its order, until one accepts.

By TLS a consumer takes for the target whom an authority of the profile, or else of the system, has signed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from gevent import socket as green
from gevent import ssl as gssl

from loadtests.model.profile.tables import Target


def connected(address: tuple[str, int], prepare: Callable[[Any], None] = lambda _: None) -> Any:
    """A connected gevent socket; `prepare` gets each before it connects. Raises OSError.

    The caller's `gevent.Timeout` with a TimeoutError is the deadline of all addresses together.
    """
    failed = OSError(f"{address[0]} has no address")
    for family, place in _addresses(*address):
        sock = green.socket(family, green.SOCK_STREAM)
        try:
            prepare(sock)
            sock.connect(place)
        except BaseException as error:
            sock.close()
            deadline = isinstance(error, TimeoutError) and error.errno is None  # the kernel's own has a number
            if deadline or not isinstance(error, OSError):
                raise
            failed = error
        else:
            return sock
    raise failed


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Address families and socket addresses; a name is asked for anew each time, in a thread of gevent's."""
    for family in (green.AF_INET, green.AF_INET6):
        try:
            green.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    return [(family, place) for family, _, _, _, place in green.getaddrinfo(host, port, 0, green.SOCK_STREAM)]


def tls_context(target: Target) -> ssl.SSLContext:
    """What all consumers of a run connect with; it is dear to make. Raises OSError where `ca_file` cannot be read.

    Certificate and name are always verified: with the authorities of `ca_file` alone, or else with the system's.
    """
    context: ssl.SSLContext = gssl.create_default_context(cafile=target.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def wrap_tls(sock: Any, context: ssl.SSLContext, target: Target, host: str) -> Any:
    """The connected socket by TLS. Raises OSError where the target cannot prove that it is `tls_name`, or `host`."""
    return context.wrap_socket(sock, server_hostname=target.tls_name or host)
