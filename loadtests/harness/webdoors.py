"""May the web UI start as it was asked for, and what does the terminal say of it?  Before Locust listens.

Raises BadInput for a user's mistake: it would stand open, or let nobody in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from loadtests.harness.options import LOOPBACK, PASSWORD
from loadtests.harness.status import StatusLine
from loadtests.model.errors import BadInput
from loadtests.webui.doors import PARAMETER, Doors
from loadtests.webui.login import PATH, attach_login

LEAST = 8
"""Characters of a password."""


def close_doors(web_ui: Any, environment: Mapping[str, str]) -> Doors:
    """Attach login and doors to Locust's web UI, and print the address that carries the token."""
    password = environment.get(PASSWORD, "")
    if password and len(password) < LEAST:
        raise BadInput(f"{PASSWORD}: found {len(password)} characters, allowed {LEAST} or more")
    if web_ui.web_login:
        if password:
            attach_login(web_ui, password)
        elif web_ui.login_manager._user_callback is None:
            raise BadInput(f"--web-login: nobody could log in; set the password in {PASSWORD}")
    elif not is_loopback(web_ui.host):
        raise BadInput(
            f"--web-host {web_ui.host or '*'}: other machines would reach the load generator; set a password in "
            f"{PASSWORD}, or leave the option out to listen on {LOOPBACK}"
        )
    base = web_ui.app.blueprints["locust"].url_prefix or ""
    doors = Doors(bound=web_ui.host, port=web_ui.port, login=f"{base}{PATH}")
    doors.attach(web_ui.app)
    StatusLine().secret(f"Tickstorm: open {address(web_ui, base)}/?{urlencode({PARAMETER: doors.token})}")
    return doors


def address(web_ui: Any, base: str) -> str:
    """Where a browser of this machine finds it."""
    scheme = "https" if web_ui.tls_cert and web_ui.tls_key else "http"
    host = web_ui.host or LOOPBACK
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{web_ui.port}{base}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; an empty one means all interfaces."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
