"""Reading what the gateway says about the client."""

from __future__ import annotations

import pytest
from trimaran.servers.appserver.forwarded import first_hop, host_and_port


@pytest.mark.parametrize(
    ("field", "hop"),
    [
        (
            'for=192.0.2.1;host="a.example:81";proto=https',
            {"for": "192.0.2.1", "host": "a.example:81", "proto": "https"},
        ),
        ('for="[2001:db8::7]";proto=http, for=10.0.0.1;proto=https', {"for": "2001:db8::7", "proto": "http"}),
        ('for="[2001:db8::7]:4711"', {"for": "2001:db8::7"}),
        ("For=192.0.2.1; Proto=https", {"for": "192.0.2.1", "proto": "https"}),
        ("", {}),
        ("nonsense", {}),
        (", for=6.6.6.6", {}),
    ],
)
def test_first_hop(field: str, hop: dict[str, str]) -> None:
    assert first_hop(field) == hop


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example", ("a.example", 80)),
        ("a.example:8000", ("a.example", 8000)),
        ("[::1]", ("[::1]", 80)),
        ("[::1]:8000", ("[::1]", 8000)),
        ("a.example:", ("a.example:", 80)),
    ],
)
def test_host_and_port(host: str, expected: tuple[str, int]) -> None:
    assert host_and_port(host, 80) == expected
