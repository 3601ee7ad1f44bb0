"""The servers behind the proxies of a race: one nginx worker that answers at once, with a short text or a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers.contenders.nginx import nginx_process
from benchmarks.servers.contenders.process import answers, free_port, other_cores

KIBIBYTE = 1024


@contextlib.contextmanager
def serving(
    directory: Path, count: int = 2, body: int = KIBIBYTE, unix: bool = False, threads: int = 1
) -> Iterator[list[str]]:
    """The addresses of `count` servers that answer every request with `body` bytes, beside proxies of `threads` threads."""
    place = directory / "servers"
    ports = [] if unix else [free_port() for _ in range(count)]
    addresses = [f"unix:{place}/{number}" for number in range(count)] if unix else [f"127.0.0.1:{at}" for at in ports]
    if body <= KIBIBYTE:
        answer = f'default_type text/plain; location / {{ return 200 "{"x" * body}"; }}'
    else:
        files = directory / "files"
        files.mkdir(mode=0o755)
        (files / "body").write_bytes(b"x" * body)
        answer = (
            f"default_type text/plain; root {files}; location / {{ try_files /body =404; }} open_file_cache max=10;"
        )
    servers = "\n".join(f"server {{ listen {address} backlog=4096; {answer} }}" for address in addresses)
    with nginx_process(place, servers, 1, other_cores(threads)):
        for address in addresses:
            kind, _, rest = address.partition(":")
            answers(Path(rest) if kind == "unix" else int(rest))
        yield addresses
