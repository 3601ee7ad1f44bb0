"""All measurements of the servers, or some of them, as Markdown tables: what `make bench` runs.

    python -m benchmarks.servers [--rows 1k,tls,tail] [--rounds 3] [--seconds 2] [--proxies haproxy,nginx] [--quick]

Rows that are races of proxies (`proxies.ROWS`) are explained in `proxies.py`; every other one in the module of its name.
Without `--rows` everything runs, in about 17 minutes; `--quick` is a small choice in about two minutes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

from benchmarks.servers import contenders, crowd, idle_memory, loads, overload, proxies, report, skew, stack, tail

QUICK = ("1k", "64k", "tls", "h2")
OTHERS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "memory": lambda options: idle_memory.run(options.names, 1),
    "stack": lambda options: stack.run(options.rounds, options.seconds),
    "tail": lambda options: tail.run(options.tail_seconds),
    "overload": lambda options: overload.run(options.seconds * 3, min(options.rounds, 2)),
    "skew": lambda options: skew.run(options.rounds),
    "crowd": lambda options: crowd.run(seconds=options.seconds, rounds=options.rounds),
}


def main() -> int:
    """Measure what was asked for and print it. Names what could not be compared."""
    parser = argparse.ArgumentParser(prog="benchmarks.servers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", default="", help=f"comma-separated, of: {', '.join([*proxies.ROWS, *OTHERS])}")
    parser.add_argument("--rounds", type=int, help="3 (2 with --quick)")
    parser.add_argument("--seconds", type=int, default=2, help="per proxy and round, whole ones (wrk knows no others)")
    parser.add_argument("--tail-seconds", type=float, default=4.0, help="per policy and kind of trouble")
    parser.add_argument("--proxies", default="", help=f"comma-separated, of: {', '.join(contenders.ALL)}")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)} unless --rows says otherwise")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.names = [name for name in options.proxies.split(",") if name]
    rows = [name for name in options.rows.split(",") if name]
    rows = rows or list(QUICK if options.quick else (*proxies.ROWS, *OTHERS))
    for given, known in ((rows, [*proxies.ROWS, *OTHERS]), (options.names, list(contenders.ALL))):
        for name in given:
            if name not in known:
                parser.error(f"{name!r}: expected one of {', '.join(known)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = time.monotonic()
    print("\n".join(report.header(options.names)), flush=True)
    raced = {}
    for name in rows:
        if name in proxies.ROWS:
            row = proxies.ROWS[name]
            raced[name] = proxies.race(row, options.names, options.rounds, options.seconds)
            seconds = max(options.seconds, row.seconds_least)
            method = f"{row.connections:,} connections, {options.rounds} rounds of {seconds} s"
            if row.tool is loads.handshakes:
                method = f"{loads.HANDSHAKES_PER_S} new connections/s, {options.rounds} rounds of {seconds} s"
            lines = [f"### {row.title}", "", method, "", *proxies.table(raced[name])]
        else:
            lines = OTHERS[name](options)
        print("\n" + "\n".join(lines), flush=True)
    if raced:
        print("\n### All races\n\n" + "\n".join(proxies.summary(raced)))
    print(f"\n{time.monotonic() - began:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
