"""Where does an address end, and how is one written?  `host:port`, an IPv6 address in brackets: `[::1]:6379`."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST_PORT = rf"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]):{_PORT}"
PATTERN = f"^{_HOST_PORT}$"
SPARE = "spare"
"""Instead of an address: a second server that the local stack starts."""
PATTERN_OR_SPARE = f"^({SPARE}|{_HOST_PORT})$"
"""What is in brackets may still be no IPv6 address: `is_address` knows."""


def host_port(address: str) -> tuple[str, int]:
    """Host and port as a socket takes them: an IPv6 address without its brackets. Raises ValueError without a port."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def written(host: str, port: int | str) -> str:
    """An address as a profile, a URL or a Host header has it."""
    return f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_address(text: str) -> bool:
    """Whether what matches the pattern has an IPv6 address where it has brackets."""
    if text.startswith("["):
        try:
            IPv6Address(text[1 : text.rindex("]")])
        except AddressValueError:
            return False
    return True
