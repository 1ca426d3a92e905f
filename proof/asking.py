"""How does the proof ask a server of this machine over HTTP?  Directly, whatever proxy the shell names for others."""

from __future__ import annotations

import urllib.request

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""`open(url or request, data, timeout)`: raises OSError as `urlopen` does."""
