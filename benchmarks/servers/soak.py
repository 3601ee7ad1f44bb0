"""A long run at full speed: is every request answered, and does memory stay flat?

    python -m benchmarks.servers.soak [--minutes 60]

Kept connections by HTTP/1.1, the same with compressed responses, with TLS, and HTTP/2 over TLS take turns of ten seconds.
The run fails at the first response that is not 2xx and the first broken connection. Resident memory is read after every
turn; reported are the time, the requests, and memory after the first tenth of the run, at its end and at its highest.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.servers import backends
from benchmarks.servers.contenders import Work, trimaran
from benchmarks.servers.loads import h2load, wrk
from benchmarks.servers.processes import cpu_seconds, resident_bytes
from benchmarks.servers.proxies import issue

TURN_S = 10
CONNECTIONS = 64
SILENT_TURNS_MAX = 4
"""Turns without an answer: a few belong to a machine that has other work, more to a gateway that hangs."""


def main() -> int:
    """Run and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trimaran-soak-")))
        servers = stack.enter_context(backends.serving(directory))
        plain = stack.enter_context(trimaran.start(directory, Work(servers)))
        secure = stack.enter_context(trimaran.start(directory, Work(servers, issue(directory))))
        turns = (
            ("HTTP/1.1", plain, wrk, ()),
            ("compressed", plain, wrk, ("Accept-Encoding: gzip, br, zstd",)),
            ("TLS", secure, wrk, ()),
            ("HTTP/2", secure, h2load, ()),
        )
        began, total, silent, memory = time.monotonic(), 0, 0, []
        while (elapsed := time.monotonic() - began) < options.minutes * 60:
            for name, proxy, tool, fields in turns:
                answered = tool(proxy, TURN_S, CONNECTIONS, *fields).requests
                total += answered
                silent = 0 if answered else silent + 1
                if silent == SILENT_TURNS_MAX:
                    raise SystemExit(f"nothing was answered for {silent * TURN_S} s")
                memory.append(sum(map(resident_bytes, plain.pids + secure.pids)))
                print(
                    f"{elapsed / 60:5.1f} min {name:<10} {total:>12,} requests {memory[-1] / 1e6:7.1f} MB",
                    file=sys.stderr,
                )
        settled = memory[len(memory) // 10]
        cpu = cpu_seconds(plain.pids + secure.pids)
        print(
            f"{elapsed / 60:.0f} minutes, {total:,} requests, all answered with 2xx, {cpu / total * 1e6:.1f} CPU µs each;"
            f" memory of two gateways {settled / 1e6:.1f} MB after a tenth, {memory[-1] / 1e6:.1f} MB at the end,"
            f" {max(memory) / 1e6:.1f} MB at most"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
