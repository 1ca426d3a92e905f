"""Who may use Locust's web UI?  A guard in front of every route of its application, Locust's own as well as ours.

Loopback is no authentication: another user of this machine reaches the port, and so does any web page in the user's
browser. So a request has to

- ask for this machine by a name that is its own (a foreign name may resolve to here as well: DNS rebinding),
- come from our own page, or from no page at all, by the browser's word (`Sec-Fetch-Site`, `Origin`),
- where it changes anything, carry the token of this start of Locust,
- and be small: nothing of a body is read before the rest holds, and no more than a form needs.

The terminal prints an address with the token. A browser that opens it gets the token as a cookie that no other site's
request carries, and is redirected to the same address without it. Programs send it as the header
`X-Tickstorm-Token`. A refusal is a 403 with one sentence, for what is too long a 413. No answer may be framed, or read
by another site.

What this does not do: a program that serves pages on another port of this machine gets the cookie when the user opens
one of them, for browsers keep cookies by host and not by port (docs/security.md).

Beside it one may log in with the password in TICKSTORM_WEB_PASSWORD, on Locust's own login page. Locust brings the page
and guards its routes once `--web-login` is given; `attach_login` says which users it lets in. The user's name is free:
there is one password.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection
from functools import cache
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, jsonify, make_response, redirect, request, session, url_for
from flask_login import UserMixin, login_user
from werkzeug.exceptions import RequestEntityTooLarge

HEADER = "X-Tickstorm-Token"
PARAMETER = "token"
WEB_HOSTS = "TICKSTORM_WEB_HOSTS"
"""Environment: more names, with commas between, under which browsers may reach the page, such as a proxy's."""

EXTENSION = "tickstorm-access-guard"
"""Under which name Flask's application keeps its access guard."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_CORS = "Access-Control-"
MOST_BYTES = 65_536
"""Of a body; only the login's is sent without a token."""
MOST_AT_LOGIN = 4_096
FORM = "application/x-www-form-urlencoded"


class AccessGuard:
    """The guard of one web UI. `login` names the one path whose POST needs no token: before the login there is none."""

    def __init__(self, *, bound: str, port: int, login: str) -> None:
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"tickstorm_token_{port}"
        self._names, self._login = own_names(bound), login

    def attach(self, app: Flask) -> None:
        """Stand in front of all routes, before whatever else looks at a request; and behind all answers."""
        app.before_request_funcs.setdefault(None, []).insert(0, self._admit)
        # Handlers are called last to first: the first of the list has the last word, after Locust's own.
        app.after_request_funcs.setdefault(None, []).insert(0, _closed)
        app.register_error_handler(413, lambda _: refused(413, "this is longer than anything that is asked for here"))
        app.extensions[EXTENSION] = self

    def _admit(self) -> Response | None:
        if (why := self._foreign()) is not None:
            return refused(403, why)
        if request.method in READING:
            return self._let_in() if PARAMETER in request.args else None
        if request.path != self._login:
            if not self.lets_change():
                return refused(
                    403, "the token of this start of Locust is missing: open the address that the terminal printed"
                )
            _read(MOST_BYTES)
        elif request.mimetype != FORM:  # others may bring files, which would be stored
            return refused(415, "a login is a form")
        else:
            _read(MOST_AT_LOGIN)
        return None

    def _foreign(self) -> str | None:
        if not is_ours(request.host, self._names):
            return f'"{request.host}" is no name of this machine: use its address, or name it in {WEB_HOSTS}'
        site = request.headers.get("Sec-Fetch-Site", "same-origin")  # a program, or an old browser, says nothing
        typed = request.method in READING and site == "none"
        origin = request.headers.get("Origin")
        if site != "same-origin" and not typed and not _followed():
            return "this request comes from another site"
        if origin is not None and _place(origin) != request.host.lower():
            return "this request comes from another site"
        return None

    def _let_in(self) -> Response | None:
        """The address that was printed: the cookie, and the same page without the token in its address."""
        if not self._is_token(request.args[PARAMETER]):
            return refused(403, "this token is of another start of Locust: open the address that the terminal printed")
        rest = urlencode([(key, value) for key, value in request.args.items(multi=True) if key != PARAMETER])
        here = request.path.rpartition("/")[2] or "./"  # relative: a proxy may put a path before ours
        answer = make_response(redirect(f"{here}?{rest}" if rest else here, 303))
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="Strict", secure=request.is_secure)
        answer.headers["Cache-Control"], answer.headers["Referrer-Policy"] = "no-store", "no-referrer"
        return answer

    def lets_change(self) -> bool:
        """Whether the present request may change anything."""
        return self._known(request.headers.get(HEADER, ""))

    def _known(self, sent: str) -> bool:
        return self._is_token(sent or request.cookies.get(self.cookie, ""))

    def _is_token(self, sent: str) -> bool:
        return hmac.compare_digest(sent.encode("utf-8", "replace"), self.token.encode())


def _read(most: int) -> None:
    """Read the whole body, however its length is told; handlers find it in the request."""
    request.max_content_length = most + 1  # of a body in chunks Werkzeug drops what is beyond, and says nothing
    if len(request.get_data()) > most:
        raise RequestEntityTooLarge


def _followed() -> bool:
    """A link that a person followed in another page: it shows our page and tells its maker nothing."""
    return (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def _place(origin: str) -> str | None:
    """Its host and port; None where it is no address at all."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _closed(response: Response) -> Response:
    """Locust lets every site read every answer, and put every page into a frame."""
    for header in [name for name, _ in response.headers if name.startswith(_CORS)]:
        del response.headers[header]
    # In a foreign page's frame a user could click it while seeing something else (clickjacking).
    response.headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def refused(status: int, text: str) -> Response:
    """In our words and in those of Locust's start form."""
    return make_response(jsonify({"ok": False, "error": text, "success": False, "message": text}), status)


def is_ours(asked: str, names: Collection[str]) -> bool:
    """Whether a request's Host means this machine: an address, or a name of it."""
    host = _host(asked)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or host in {name.lower() for name in names}
    return True


def own_names(bound: str) -> frozenset[str]:
    """Names under which the page may be asked for besides addresses: bound to, this machine's, and those configured."""
    said = os.environ.get(WEB_HOSTS, "").split(",")
    return frozenset(name for each in (bound, *_machine(), *said) if (name := each.strip().lower()))


@cache
def _machine() -> tuple[str, ...]:
    return (socket.gethostname(),)


def _host(asked: str) -> str:
    """The name or address without port and brackets; empty where it is none."""
    try:
        return (urlsplit(f"//{asked}").hostname or "").rstrip(".")
    except ValueError:
        return ""


# -- the login

LOGIN_PATH = "/tickstorm-login"
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
        "username_password_callback": f"{base}{LOGIN_PATH}",
    }
    again_s = 0.0

    @app.route(f"{base}{LOGIN_PATH}", methods=["POST"])  # type: ignore[untyped-decorator]
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
