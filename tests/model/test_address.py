"""Is an address split and written as a profile, a socket, a URL and a Host header each want it?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from loadtests.model.address import host_port, written
from loadtests.model.errors import BadInput
from loadtests.model.profile.base import Address
from loadtests.model.profile.reading import read_profile

ADDRESS = TypeAdapter(Address)
EXTERNAL = """
name = "external"
question = "Is every message delivered once?"
run = { duration_s = 4 }
families = [{ name = "f", channel = "tickstock.events.patterns", event = "pattern_detected" }]
publishers = [{ name = "p", families = ["f"], shape = { kind = "constant", rate_per_s = 1 } }]
consumers = [{ name = "all", count = 1 }]
thresholds = [{ measure = "lost_defect", at_most = 0 }]

[target]
kind = "external"
redis = "REDIS"
gateway = "[fe80::1%eth0]:8080"
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("r:6379", ("r", 6379)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:6379", ("::1", 6379)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("[::ffff:10.0.0.1]:80", ("::ffff:10.0.0.1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_what_a_profile_takes_comes_apart_and_together(text, parts) -> None:
    assert ADDRESS.validate_python(text) == text
    assert host_port(text) == parts
    assert written(*parts) == text


@pytest.mark.parametrize(
    "text",
    ["::1:6379", "[::1]", "[::1]6379", "[]:1", "[:::]:1", "[1:2]:3", "[::1]:0", "r:0", "r:65536", "r:99999", "r:", ":1",
     "r", "[r]:1", "a b:1", "http://r:1", "[::1%]:1", "r:1 ", "r:٣"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text) -> None:
    with pytest.raises(ValidationError):
        ADDRESS.validate_python(text)


@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_every_ipv6_address_can_be_written(host, port) -> None:
    text = written(str(host), port)
    assert ADDRESS.validate_python(text) == text
    assert host_port(text) == (str(host), port)


def test_a_profile_says_what_it_wants_instead_and_takes_the_environments_literal() -> None:
    profile = read_profile(EXTERNAL.replace("REDIS", "[::1]:6379"), file="p").profile
    assert profile.target.redis == "[::1]:6379"
    for wrong in ("::1:6379", "[:::]:6379", "r:99999", "r:0"):
        with pytest.raises(BadInput) as caught:
            read_profile(EXTERNAL.replace("REDIS", wrong), file="p")
        assert (
            f'target.redis: found "{wrong}", allowed host:port, an IPv6 address in brackets' in caught.value.problems[0]
        )
    environment = {"TEST_REDIS_HOST": "::1"}
    profile = read_profile(EXTERNAL.replace("REDIS", "r:7000"), file="p", environment=environment).profile
    assert profile.target.redis == "[::1]:7000"
