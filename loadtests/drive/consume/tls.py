"""Whom does a consumer take for the target?  The one whose certificate an authority of the profile or system signed."""

from __future__ import annotations

import ssl
from typing import Any

from gevent import ssl as gssl

from loadtests.model.profile.tables import Target


def context_of(target: Target) -> ssl.SSLContext:
    """What all consumers of a run connect with; it is dear to make. Raises OSError where `ca_file` cannot be read.

    Certificate and name are always verified: with the authorities of `ca_file` alone, or else with the system's.
    """
    context: ssl.SSLContext = gssl.create_default_context(cafile=target.ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def wrap(sock: Any, context: ssl.SSLContext, target: Target, host: str) -> Any:
    """The connected socket by TLS. Raises OSError where the target cannot prove that it is `tls_name`, or `host`."""
    return context.wrap_socket(sock, server_hostname=target.tls_name or host)
