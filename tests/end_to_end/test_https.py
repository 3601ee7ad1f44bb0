"""HTTPS as its users run it: by settings, with certificates that are renewed."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Run
from tests.end_to_end.running import Load, Trimaran, free_port
from tests.support.certificates import Authority
from tests.support.waiting import eventually

SETTINGS = """
[gateway.tls]
bind = ["127.0.0.1:{port}"]
[[gateway.tls.certificates]]
certificate = "site.pem"
key = "site.key"
"""


def _names(port: int, context: ssl.SSLContext) -> list[str]:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    found = connection.sock.getpeercert()  # type: ignore[union-attr]
    connection.close()
    return [value for kind, value in found["subjectAltName"] if kind == "DNS"]


def test_a_renewed_certificate_is_taken_over_and_a_bad_one_is_not(run: Run, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    authority.issue("site", "localhost", "first.example")
    trimaran: Trimaran = run(more=SETTINGS.format(port=port))
    context = authority.client()
    assert _names(port, context) == ["localhost", "first.example"]
    assert f"https://127.0.0.1:{port}" in trimaran.status()["addresses"]
    with Load(port, connections=4, tls=context) as load:
        authority.issue("site", "localhost", "second.example")
        eventually(lambda: "second.example" in _names(port, context), "the new certificate is used")
        (tmp_path / "site.pem").write_text("damaged")
        eventually(lambda: "keep the old certificates" in str(trimaran.status()["decisions"]), "the bad one is refused")
        # Scaling sends a new snapshot down while the file is bad.
        assert trimaran.tell("scale", "3").returncode == 0
        eventually(lambda: len(trimaran.up()) == 3, "three servers")
        load.more(100)
    assert load.failures == []
    assert _names(port, context) == ["localhost", "second.example"]


def test_the_clear_listener_redirects(run: Run, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    authority.issue("site", "localhost")
    trimaran = run(more=SETTINGS.format(port=port))
    connection = http.client.HTTPConnection("127.0.0.1", trimaran.port, timeout=20)
    connection.request("GET", "/path?x=1")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (308, f"https://127.0.0.1:{port}/path?x=1")


@pytest.mark.parametrize("damage", ["no file", "no certificate", "no listing"])
def test_https_without_a_usable_certificate_does_not_start(run: Run, tmp_path: Path, damage: str) -> None:
    trimaran = run()
    if damage == "no certificate":
        (tmp_path / "site.pem").write_text("damaged")
        (tmp_path / "site.key").write_text("damaged")
    settings = SETTINGS.format(port=free_port())
    if damage == "no listing":
        settings = settings.partition("[[")[0]
    (tmp_path / "trimaran.toml").write_text((tmp_path / "trimaran.toml").read_text() + settings)
    for command in ("check", "reload"):
        told = trimaran.tell(command)
        assert told.returncode != 0
        assert "gateway.tls.certificates" in told.stderr
    assert trimaran.get().startswith("one")
