"""Values in the forms people write them in."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimaran.config.check import expected_statuses
from trimaran.config.model import Bind, Count, Remote
from trimaran.config.values import Unfit, bind, count, remote

names = st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9](\.[a-z]{2,5})?", fullmatch=True)
hosts = st.one_of(
    names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda a: ipaddress.IPv6Address(a).compressed)
)
binds = st.builds(Bind, hosts, st.integers(1, 65_535))


@given(binds)
def test_a_bind_is_read_as_it_is_written(value: Bind) -> None:
    assert bind(str(value)) == value


@given(binds, st.integers(1, 1000))
def test_a_remote_is_read_as_it_is_written(address: Bind, weight: int) -> None:
    value = Remote(address, float(weight))
    assert remote(str(value)) == value


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_count_is_read_as_it_is_written(a: int, b: int) -> None:
    value = Count(min(a, b), max(a, b))
    assert count(str(value)) == value


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (bind, count, remote):
        # Any other exception is a bug.
        with suppress(Unfit):
            assert parse(text) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (8000, Bind("127.0.0.1", 8000)),
        ("8000", Bind("127.0.0.1", 8000)),
        (":8000", Bind("", 8000)),
        ("*:8000", Bind("", 8000)),
        ("[::1]:8000", Bind("::1", 8000)),
        ("unix:/run/app.sock", Bind("", 0, "/run/app.sock")),
    ],
)
def test_short_forms_of_a_bind(text: object, value: Bind) -> None:
    assert bind(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:",
        "host:x",
        "host:70000",
        "::1:8000",
        "[::1:8000",
        "unix:relative",
        "unix:/" + "x" * 107,
        True,
        None,
        [],
    ],
)
def test_what_is_no_bind(text: object) -> None:
    with pytest.raises(Unfit):
        bind(text)


@pytest.mark.parametrize("text", ["a", ":80", "a:0", "a:80 weight=0", "a:80 weight=x", "a:80 height=2", 80])
def test_what_is_no_remote(text: object) -> None:
    with pytest.raises(Unfit):
        remote(text)


def test_expected_statuses() -> None:
    assert expected_statuses("200-299, 404") == ((200, 299), (404, 404))
    for text in ("", "99", "200-", "300-200", "600", "ok"):
        with pytest.raises(ValueError, match="200-399"):
            expected_statuses(text)
