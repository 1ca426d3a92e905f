"""A kind of fault that consumers play: the counts of the users, and the gateway's own, prove it."""

from __future__ import annotations

from loadtests.inject.kinds.on_users import closings, played_by_users

KIND = played_by_users("roaming-consumers", lambda seen: closings(seen, back=True))
