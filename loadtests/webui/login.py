"""How does one log in to Locust's web UI?  With the password in TICKSTORM_WEB_PASSWORD, on Locust's own login page.

Locust brings the page and guards its routes once `--web-login` is given; whom it lets in is left to others. The name is
free: there is one password, and the name only says who is there.

Only wrong passwords wait: who knows the right one is let in, whoever else is trying.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Any

import gevent
from flask import Response, redirect, request, session, url_for
from flask_login import UserMixin, login_user

from loadtests.webui.doors import EXTENSION, refused

PATH = "/tickstorm-login"
FORM = "application/x-www-form-urlencoded"
LONGEST = 1024
"""Characters of a password."""
AGAIN_S = 1.0
"""So late comes the answer to a wrong password: a million of them take their time."""


class _User(UserMixin):
    id = "tickstorm"


def attach_login(web_ui: Any, wanted: str, *, pause: Callable[[float], object] = gevent.sleep) -> None:
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

    @app.route(f"{base}{PATH}", methods=["POST"])  # type: ignore[untyped-decorator]
    def log_in() -> Response:
        given = request.form.get("password", "").encode("utf-8", "replace")
        if hmac.compare_digest(given, wanted.encode()):
            login_user(_User())  # type: ignore[no-untyped-call]
            return redirect(url_for("locust.index"), 303)  # type: ignore[return-value]
        pause(AGAIN_S)
        session["auth_error"] = "This is not the password."
        return redirect(url_for("locust.login"), 303)  # type: ignore[return-value]
