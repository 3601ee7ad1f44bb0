"""Traefik. It has no fewest-requests policy: its nearest is the less loaded of two drawn by chance."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers.contenders.process import answers, free_port, program, proxy_cores, running
from benchmarks.servers.contenders.work import UPSTREAM_MAX, Contender, Running, Work
from tests.support.waiting import eventually

BALANCES = {"round_robin": "wrr", "least_requests": "p2c", "power_of_two": "p2c"}


@contextlib.contextmanager
def start(directory: Path, work: Work) -> Iterator[Running]:
    """As many Go threads as are asked for."""
    port = free_port()
    rules, file = directory / "traefik-rules.toml", directory / "traefik.toml"
    servers = "\n".join(f'[[http.services.servers.loadBalancer.servers]]\nurl = "http://{at}"' for at in work.servers)
    encryption = ""
    if work.certificate:
        encryption = f"""[http.routers.all.tls]
[[tls.certificates]]
certFile = {json.dumps(str(work.certificate.chain))}
keyFile = {json.dumps(str(work.certificate.key))}
"""
    rules.write_text(
        f"""[http.routers.all]
rule = "PathPrefix(`/`)"
service = "servers"
entryPoints = ["in"]
{encryption}
[http.services.servers.loadBalancer]
strategy = "{BALANCES[work.balance]}"
serversTransport = "kept"
{servers}
[http.serversTransports.kept]
maxIdleConnsPerHost = {UPSTREAM_MAX}
"""
    )
    file.write_text(
        f"""[global]
checkNewVersion = false
sendAnonymousUsage = false
[log]
level = "ERROR"
[entryPoints.in]
address = "127.0.0.1:{port}"
[providers.file]
filename = {json.dumps(str(rules))}
watch = false
"""
    )
    command = [*proxy_cores(work.threads), program("traefik"), f"--configFile={file}"]
    environ = {"GOMAXPROCS": str(work.threads)}
    with running(command, log=directory / "traefik.log", environ=environ) as process:
        answers(port)
        eventually(lambda: _serves(port, work.encrypted), "Traefik has read its rules")
        yield Running("traefik", port, [process.pid], work)


def _serves(port: int, encrypted: bool) -> bool:
    """It listens before it has routes, and then says 404."""
    connection: http.client.HTTPConnection
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    return False


CONTENDER = Contender("traefik", start, "traefik", ("version",), BALANCES, unix=False)
