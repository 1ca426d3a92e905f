"""Is a client's token good?  Subject, expiry in Unix seconds, an HMAC-SHA256 of both; pure but for the clock.

`subject.expiry.mark`, the mark in URL-safe base64 without padding.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

Refusal = Literal["missing", "wrong", "expired"]
MAX_CHARACTERS = 1024


class RefusedError(Exception):
    """A client without a good token; `kind` is what the statistics count, `status` what HTTP answers."""

    def __init__(self, kind: Refusal) -> None:
        super().__init__(f"{kind} token")
        self.kind: Refusal = kind
        self.status = 401 if kind == "missing" else 403


class Guard:
    """Lets in who has a good token; without a secret it lets in everybody."""

    def __init__(self, secret: str, now_s: Callable[[], float]) -> None:
        self._secret = secret.encode()
        self._now_s = now_s
        self.refused: Counter[str] = Counter()

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return bool(self._secret)

    def admit(self, query: Mapping[str, str], headers: Mapping[str, str], auth: object = None) -> None:
        """Look for a token in Socket.IO's connect, the Authorization header, then `?token=`. Raises RefusedError."""
        if not self.asks:
            return
        try:
            check(self._secret, presented(query, headers, auth), self._now_s())
        except RefusedError as refused:
            self.refused[refused.kind] += 1
            raise


def presented(query: Mapping[str, str], headers: Mapping[str, str], auth: object) -> str:
    """The token that a client shows, empty where it shows none."""
    if isinstance(auth, Mapping) and isinstance(auth.get("token"), str):
        return str(auth["token"])
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else query.get("token", "")


def check(secret: bytes, token: str, now_s: float) -> None:
    """Raises RefusedError for a token that is missing, wrong or expired; a wrong one is never called expired."""
    if not token:
        raise RefusedError("missing")
    claim, _, mark = token.rpartition(".")
    if len(token) > MAX_CHARACTERS or not hmac.compare_digest(mark.encode(), sign(secret, claim).encode()):
        raise RefusedError("wrong")
    expiry = claim.rpartition(".")[2]
    if not (expiry.isascii() and expiry.isdigit()):
        raise RefusedError("wrong")
    if int(expiry) <= now_s:
        raise RefusedError("expired")


def sign(secret: bytes, claim: str) -> str:
    """The mark of a claim `subject.expiry`."""
    made = hmac.digest(secret, claim.encode(errors="surrogatepass"), hashlib.sha256)
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()
