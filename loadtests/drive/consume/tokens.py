"""Which token does a consumer present?  A good one, or one that must be refused. Signed with the target's own secret.

The secret comes from the environment and goes nowhere else: no record, log or report holds it, or a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Mapping

from loadtests.model.errors import BadInput
from loadtests.model.logins import TOKEN_SECRET

GOOD_FOR_S = 24 * 3600
_EXPIRED_SINCE_S = 60


class Tokens:
    """Tokens as the target checks them: subject, time of expiry in Unix seconds, HMAC-SHA256 of both."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tokens:
        """Raises BadInput where the secret is not set."""
        secret = environ.get(TOKEN_SECRET, "")
        if not secret:
            raise BadInput(f'target.auth: found "token", allowed only with the secret of the target in {TOKEN_SECRET}')
        return cls(secret)

    def good(self, slot: int) -> str:
        """One that the target must take."""
        return self._sign(slot, int(time.time()) + GOOD_FOR_S, self._secret)

    def bad(self, slot: int, how: str) -> str | None:
        """One that it must refuse: `wrong` or `expired`; None for `missing`."""
        if how == "missing":
            return None
        if how == "expired":
            return self._sign(slot, int(time.time()) - _EXPIRED_SINCE_S, self._secret)
        return self._sign(slot, int(time.time()) + GOOD_FOR_S, b"not " + self._secret)

    def _sign(self, slot: int, expires_s: int, secret: bytes) -> str:
        claim = f"consumer-{slot}.{expires_s}"
        mark = base64.urlsafe_b64encode(hmac.digest(secret, claim.encode(), hashlib.sha256)).rstrip(b"=")
        return f"{claim}.{mark.decode()}"
