"""How does one log in to Locust's web UI?  With the password in TICKSTORM_WEB_PASSWORD, on Locust's own login page.

Locust brings the page and guards its routes once `--web-login` is given; which users it lets in is left to
this module. The user's name is free: there is one password.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any

from flask import Response, redirect, request, session, url_for
from flask_login import UserMixin, login_user

from loadtests.webui.access_guard import EXTENSION

PATH = "/tickstorm-login"
AGAIN_S = 1.0
"""Rate limit: so long after a wrong password a client without the token gets no other try."""


class _User(UserMixin):
    id = "tickstorm"


def attach_login(web_ui: Any, wanted: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
    """Let in who knows the password. Call it before the web UI starts."""
    app = web_ui.app
    base = app.blueprints["locust"].url_prefix or ""
    app.secret_key = secrets.token_bytes(32)  # a new start asks again
    app.config.update(SESSION_COOKIE_NAME=f"tickstorm_session_{web_ui.port}", SESSION_COOKIE_SAMESITE="Strict")
    web_ui.login_manager.user_loader(lambda known: _User() if known == _User.id else None)
    web_ui.auth_args = {
        "title": "Tickstorm",
        "username_password_callback": f"{base}{PATH}",
    }
    again_s = 0.0

    @app.route(f"{base}{PATH}", methods=["POST"])  # type: ignore[untyped-decorator]
    def log_in() -> Response:
        nonlocal again_s
        given = request.form.get("password", "").encode("utf-8", "replace")
        # A client that keeps on guessing does not lock out the user who opened the printed address.
        if now_s() < again_s and not app.extensions[EXTENSION].lets_change():
            session["auth_error"] = "Too many tries: wait a second, or open the address that the terminal printed."
        elif hmac.compare_digest(given, wanted.encode()):
            login_user(_User())  # type: ignore[no-untyped-call]
            return redirect(url_for("locust.index"), 303)  # type: ignore[return-value]
        else:
            again_s = now_s() + AGAIN_S
            session["auth_error"] = "This is not the password."
        return redirect(url_for("locust.login"), 303)  # type: ignore[return-value]
