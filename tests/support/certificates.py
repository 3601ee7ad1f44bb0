"""Certificates for tests, from an authority of their own."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme


class Authority:
    """Signs certificates, writes them as files, and makes clients that trust it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, file: str, *names: str) -> dict[str, str]:
        """Writes `file`.pem and `file`.key for `names`, replacing what is there. Its entry in a snapshot or the settings."""
        issued = self._ca.issue_cert(*names)
        certificate, key = self._directory / f"{file}.pem", self._directory / f"{file}.key"
        # As certificate tools do it: each file appears whole.
        for path, blob in (
            (certificate, b"".join(pem.bytes() for pem in issued.cert_chain_pems)),
            (key, issued.private_key_pem.bytes()),
        ):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(blob)
            fresh.rename(path)
        return {"certificate": str(certificate), "key": str(key)}

    def client(self, *, own: bool = False) -> ssl.SSLContext:
        """A client's side of TLS; with `own` it has a certificate to show."""
        context = ssl.create_default_context(cafile=str(self.file))
        if own:
            self._ca.issue_cert("client@example.com").configure_cert(context)
        return context


def tls(*certificates: dict[str, str], mark: str = "1", **changes: Any) -> dict[str, Any]:
    """The part of a snapshot that switches TLS on, on a free loopback port."""
    return {
        "listeners": ["127.0.0.1:0"],
        "certificates": [{**each, "mark": mark} for each in certificates],
        "client_ca": "",
        "version_min": "1.2",
        "http2": True,
        "redirect_port": None,
        "hsts_max_age_s": 0,
        **changes,
    }
