"""Clients that people use, over TLS: curl, h2load, openssl and a browser, by HTTP/1.1 and HTTP/2.

A client that is not installed skips its tests and says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Running, free_port
from tests.support.certificates import Authority
from tests.support.waiting import eventually

APP = """
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

PAGE = Path("page.html").read_text()
TOLD = Path("told.json")


async def page(request):
    return HTMLResponse(PAGE)


async def part(request):
    return Response("p" * int(request.query_params["size"]), media_type="text/plain")


async def upload(request):
    count = 0
    async for piece in request.stream():
        count += len(piece)
    return JSONResponse({"count": count, "version": request.scope["http_version"]})


async def events(request):
    return StreamingResponse((f"data: {n}\\n\\n" for n in range(3)), media_type="text/event-stream")


async def tell(request):
    fresh = TOLD.with_suffix(".new")
    fresh.write_bytes(await request.body())
    fresh.rename(TOLD)
    return Response()


async def echo(socket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


app = Starlette(
    routes=[
        Route("/", page),
        Route("/part", part),
        Route("/upload", upload, methods=["POST", "PUT"]),
        Route("/events", events),
        Route("/tell", tell, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ]
)
"""

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>loading</title>
<h1>A page with many parts</h1>
<script>
const sockets = () => new Promise((done, fail) => {
  const socket = new WebSocket(`wss://${location.host}/echo`);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => done(event.data);
  socket.onerror = () => fail(new Error("WebSocket"));
});
const events = () => new Promise((done, fail) => {
  const seen = [], source = new EventSource("/events");
  source.onmessage = (event) => {
    seen.push(event.data);
    if (seen.length === 3) { source.close(); done(seen); }
  };
  source.onerror = () => fail(new Error("EventSource"));
});
const parts = Array.from({ length: 60 }, (_, at) => fetch(`/part?size=${at * 1000}`).then((answer) => answer.text()));
const upload = fetch("/upload", { method: "POST", body: "u".repeat(3000000) }).then((answer) => answer.json());
Promise.all([Promise.all(parts), upload, sockets(), events()])
  .then(([parts, upload, echo, events]) => ({
    sizes: parts.map((part) => part.length), upload: upload.count, echo, events,
    protocols: [...new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol))],
    page: performance.getEntriesByType("navigation")[0].nextHopProtocol,
  }))
  .catch((error) => ({ error: String(error) }))
  .then((told) => fetch("/tell", { method: "POST", body: JSON.stringify(told) }));
</script>
"""

SETTINGS = """
app = "clients_app:app"
[servers]
count = "2"
[gateway.tls]
bind = ["127.0.0.1:{port}"]
[[gateway.tls.certificates]]
certificate = "site.pem"
key = "site.key"
"""


class Site:
    """The app behind Trimaran, over TLS at `url`."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.authority = Authority(directory)
        self.authority.issue("site", "localhost", "first.example")
        for name, text in (
            ("clients_app.py", APP),
            ("page.html", PAGE),
            ("trimaran.toml", SETTINGS.format(port=self.port)),
        ):
            (directory / name).write_text(text)
        self.running = Running(directory, directory / ".trimaran")
        self.url = f"https://localhost:{self.port}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("clients"))
    yield made
    made.running.close()


def program(*names: str) -> str:
    """The first of `names` that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"not installed: {' or '.join(names)}")


def run(*command: str | Path, given: bytes = b"") -> tuple[int, str]:
    """Exit status, and what was said to either output."""
    ended = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    return ended.returncode, ended.stdout.decode("latin-1")


@pytest.mark.parametrize(("flag", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("/part?size=100000", [], "p" * 100_000),
        ("/part?size=0", ["--compressed"], ""),
        ("/part?size=50000", ["--compressed"], "p" * 50_000),
        ("/upload", ["--data-binary", "@body"], '{"count":2000000,"version":"1.1"}'),
        ("/upload", ["--upload-file", "body", "--header", "Expect: 100-continue"], '{"count":2000000,"version":"1.1"}'),
        ("/upload", ["--upload-file", "-", "--no-buffer"], '{"count":2000000,"version":"1.1"}'),
        ("/events", ["--no-buffer"], "data: 0\n\ndata: 1\n\ndata: 2\n\n"),
    ],
    ids=["download", "empty", "compressed", "upload", "expect", "unknown length", "events"],
)
def test_curl(site: Site, flag: str, version: str, path: str, more: list[str], expected: str) -> None:
    curl = program("curl")
    if version == "2" and "HTTP2" not in run(curl, "--version")[1]:
        pytest.skip("this curl speaks no HTTP/2")
    body = site.directory / "body"
    body.write_bytes(b"x" * 2_000_000)
    more = [part.replace("@body", f"@{body}") if part.startswith("@") else part for part in more]
    more = [str(body) if part == "body" else part for part in more]
    told = ["--silent", "--show-error", "--fail", "--max-time", "30", "--write-out", "%{stderr}version %{http_version}"]
    given = b"x" * 2_000_000 if "-" in more else b""
    status, said = run(curl, flag, *told, "--cacert", str(site.authority.file), *more, f"{site.url}{path}", given=given)
    assert status == 0, said[:500]
    assert said.replace(f"version {version}", "") == expected
    assert f"version {version}" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_openssl(site: Site, version: str, protocol: str) -> None:
    openssl = program("openssl")
    connect = ["s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "localhost", version]
    trust = ["-CAfile", str(site.authority.file), "-verify_return_error", "-verify_hostname", "localhost"]
    status, said = run(openssl, *connect, *trust, "-alpn", protocol)
    assert status == 0, said
    assert "Verify return code: 0 (ok)" in said
    assert f"ALPN protocol: {protocol}" in said
    if protocol == "http/1.1":
        request = b"GET /part?size=5 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        _, said = run(openssl, *connect, *trust, "-quiet", "-ign_eof", given=request)
        assert "HTTP/1.1 200 OK" in said
        assert said.rstrip().endswith("ppppp")


def test_openssl_is_refused_with_an_old_version(site: Site) -> None:
    openssl = program("openssl")
    old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    status, said = run(openssl, "s_client", "-connect", f"127.0.0.1:{site.port}", *old)
    if "nknown option" in said:
        pytest.skip("this openssl cannot speak TLS 1.1")
    assert status != 0, said


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_h2load(site: Site, protocol: str) -> None:
    h2load = program("h2load")
    address = f"https://127.0.0.1:{site.port}/part?size=100"
    status, said = run(h2load, "-n", "2000", "-c", "10", "-m", "10", f"--npn-list={protocol}", address)
    assert status == 0, said
    assert f"Application protocol: {protocol}" in said
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in said


def test_a_certificate_is_replaced_under_load_by_http2(site: Site) -> None:
    h2load, openssl = program("h2load"), program("openssl")

    def name() -> str:
        _, said = run(openssl, "s_client", "-connect", f"127.0.0.1:{site.port}", "-servername", "localhost")
        _, told = run(openssl, "x509", "-noout", "-ext", "subjectAltName", given=said.encode("latin-1"))
        return told

    # Connections live through the change, and new ones begin all the time.
    command = [h2load, "-D", "6", "-c", "8", "-m", "4", f"https://127.0.0.1:{site.port}/part?size=100"]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        changed = 0
        while load.poll() is None:
            changed += 1
            site.authority.issue("site", "localhost", f"number-{changed}.example")
            eventually(lambda number=changed: f"number-{number}.example" in name(), "the new certificate is used")
        said = load.communicate(timeout=30)[0].decode()
    finally:
        load.kill()
        load.wait(10)
    assert changed > 1
    outcome = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    assert outcome is not None, said
    assert int(outcome[1]) > 100
    assert outcome.groups()[1:] == ("0", "0", "0"), said


@pytest.mark.parametrize(("flags", "protocol"), [([], "h2"), (["--disable-http2"], "http/1.1")])
def test_a_browser(site: Site, tmp_path: Path, flags: list[str], protocol: str) -> None:
    """Sixty parts at once, an upload, a WebSocket and events, as the page itself sees them."""
    chromium = program("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    told = site.directory / "told.json"
    told.unlink(missing_ok=True)
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet, *flags]
    # Its trust store is the user's; that the certificate is right, curl and openssl have checked.
    command += ["--ignore-certificate-errors", f"--user-data-dir={tmp_path}", "--remote-debugging-port=0"]
    with (tmp_path / "log").open("wb") as log:
        browser = subprocess.Popen([*command, f"{site.url}/"], stdout=log, stderr=log)
        try:
            eventually(told.exists, f"the page has told; see {log.name}", within_s=60)
        finally:
            browser.terminate()
            try:
                browser.wait(20)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait(10)
    seen = json.loads(told.read_text())
    assert "error" not in seen, seen
    assert seen["sizes"] == [at * 1000 for at in range(60)]
    assert (seen["upload"], seen["echo"], seen["events"]) == (3_000_000, "hello", ["0", "1", "2"])
    assert (seen["page"], seen["protocols"]) == (protocol, [protocol])
