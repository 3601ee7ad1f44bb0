"""The PostgreSQL gateway beside PgBouncer and no pooler at all, by pgbench, as Markdown tables: `make bench-databases`.

    python -m benchmarks.databases.pgbench [--scripts select] [--protocols simple] [--clients 16,64] [--quick]

Every contender is started once, and they take turns within each round; ratios are of one round. Poolers have a core to
themselves, PostgreSQL and pgbench share the others, so throughput tells of them: what a pooler costs is its CPU time. How
much it has to do at once changes that, so the last tables are at one rate for all.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.databases import contenders, resting
from benchmarks.databases.contenders import ALL, OURS, PGBOUNCER, PGBOUNCER_TCP, PRIMARY_ONLY, Contender, Running
from benchmarks.databases.load import SCRIPTS, Load, RunFailed, Sample, run
from benchmarks.databases.nodes import POOL, REPLICAS, SCALE, Nodes
from benchmarks.servers.report import processor

PROTOCOLS = ("simple", "extended", "prepared")
CLIENTS = (1, 16, 64, 500)
RATE = 5_000
"""Transactions a second that all contenders can do with many clients, and that leave the servers time."""
Rounds = dict[str, list[Sample | None]]
"""By contender, a sample for each round; None where it failed."""


def main() -> int:
    """Measure what was asked for and print it."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = os.cpu_count() or 1
    if cores > 1:
        # What is started from here is PostgreSQL and pgbench; poolers are told their own cores.
        os.sched_setaffinity(0, range(1, cores))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as place:
        directory = Path(place)
        directory.chmod(0o755)
        with Nodes(directory / "nodes") as nodes:
            print("\n".join(_header(options)), flush=True)
            with _all(options.contenders, nodes, directory) as all_running:
                for script in options.scripts:
                    for protocol in options.protocols:
                        print("\n" + "\n".join(_table(script, protocol, all_running, options)), flush=True)
                for protocol in options.protocols if options.rate else []:
                    table = _table("select", protocol, all_running, options, rate=options.rate)
                    print("\n" + "\n".join(table), flush=True)
            if not options.no_rest:
                print("\n" + "\n".join(resting.run(nodes, directory)), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s in all.")
    return 0


def _options() -> argparse.Namespace:
    def one_of(known: tuple[str, ...]) -> Callable[[str], list[str]]:
        def choose(text: str) -> list[str]:
            chosen = text.split(",")
            if wrong := set(chosen) - set(known):
                raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: expected some of {', '.join(known)}")
            return chosen

        return choose

    parser = argparse.ArgumentParser(
        prog="benchmarks.databases.pgbench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--scripts", type=one_of(tuple(SCRIPTS)), help=", ".join(SCRIPTS))
    parser.add_argument("--protocols", type=one_of(PROTOCOLS), default=list(PROTOCOLS), help=", ".join(PROTOCOLS))
    parser.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], help="1,16,64,500")
    names = tuple(contender.name for contender in ALL)
    parser.add_argument("--only", type=lambda text: text.split(";"), default=names, help="; ".join(names))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="per contender and round")
    parser.add_argument("--rate", type=int, help=f"transactions a second of the last tables: {RATE}; 0 leaves them out")
    parser.add_argument("--only-rate", action="store_true", help="only the tables at one rate")
    parser.add_argument("--no-rest", action="store_true", help="without what idle connections and an idle gateway cost")
    parser.add_argument("--quick", action="store_true", help="select-only with 16 clients, about a minute")
    options = parser.parse_args()
    options.scripts = options.scripts or (["select"] if options.quick else list(SCRIPTS))
    options.scripts = [] if options.only_rate else options.scripts
    options.rate = options.rate if options.rate is not None else 0 if options.quick else RATE
    options.clients = options.clients or ([16] if options.quick else list(CLIENTS))
    options.contenders = [contender for contender in ALL if contender.name in options.only]
    return options


def _header(options: argparse.Namespace) -> list[str]:
    today, cores = datetime.datetime.now(datetime.UTC).date(), os.cpu_count()
    return [
        f"{today}, {processor()}, {cores} cores, Linux {platform.release()}; {', '.join(contenders.versions())}",
        f"{options.rounds} rounds of {options.seconds} s, scale {SCALE}, {POOL} server connections per pool, "
        f"a primary and {REPLICAS} replicas",
    ]


@contextlib.contextmanager
def _all(chosen: list[Contender], nodes: Nodes, directory: Path) -> Iterator[list[tuple[Contender, Running]]]:
    with contextlib.ExitStack() as stack:
        yield [(contender, stack.enter_context(contender.start(nodes, directory))) for contender in chosen]


def _table(
    script: str,
    protocol: str,
    all_running: list[tuple[Contender, Running]],
    options: argparse.Namespace,
    *,
    rate: int = 0,
) -> list[str]:
    """CPU time, throughput and p99 of one script by one protocol; medians, with the range in parentheses."""
    lines = [f"### {SCRIPTS[script]}, {protocol}" + (f", {rate:,} a second" if rate else ""), ""]
    lines += ["| clients | | CPU us per transaction | transactions/s | p99 ms |", "|---|---|---|---|---|"]
    for clients in options.clients:
        if rate and clients == 1:
            continue  # It cannot do so many.
        load = Load(script, protocol, clients, options.seconds, rate)
        rounds: Rounds = {}
        taking_part = []
        for contender, running in all_running:
            if protocol in dict(contender.cannot) or clients > contender.clients_max:
                continue
            taking_part.append((contender, running))
        for number in range(options.rounds):
            # Whoever is first has the caches as somebody else left them.
            first = number % len(taking_part)
            for contender, running in taking_part[first:] + taking_part[:first]:
                rounds.setdefault(contender.name, []).append(_sample(running, load))
        for contender, _ in all_running:
            lines.append(f"| {clients} | {contender.name} | {_cells(contender, protocol, clients, rounds)} |")
        lines += [f"| {clients} | {ratio} |" for ratio in _ratios(rounds)]
    return lines


def _sample(running: Running, load: Load) -> Sample | None:
    """One run. A failed one is told, and does not end the others."""
    try:
        return run(running.dsn, running.pid, load)
    except RunFailed as failed:
        print(f"{load}: {failed}", file=sys.stderr, flush=True)
        return None


def _cells(contender: Contender, protocol: str, clients: int, rounds: Rounds) -> str:
    if why := dict(contender.cannot).get(protocol):
        return f"{why} | | "
    if clients > contender.clients_max:
        return "more than the server takes | | "
    samples = [sample for sample in rounds[contender.name] if sample is not None]
    if not samples:
        return "every run failed | | "
    costs = [sample.cpu_us for sample in samples if sample.cpu_us is not None]
    rates, tails = [sample.per_s for sample in samples], [sample.p99_ms for sample in samples]
    return f"{_range(costs, '.1f') if costs else '-'} | {_range(rates, ',.0f')} | {_range(tails, '.2f')}"


def _ratios(rounds: Rounds) -> Iterator[str]:
    """Ours divided by the peer's, round by round."""
    for ours, peer in ((OURS, PGBOUNCER), (PRIMARY_ONLY, PGBOUNCER), (OURS, PGBOUNCER_TCP)):
        both = zip(rounds.get(ours.name, []), rounds.get(peer.name, []), strict=False)
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        if pairs:
            cost = [a.cpu_us / b.cpu_us for a, b in pairs if a.cpu_us and b.cpu_us]
            rate, tail = [a.per_s / b.per_s for a, b in pairs], [a.p99_ms / b.p99_ms for a, b in pairs]
            columns = " | ".join(_range(values, ".2f") for values in (cost, rate, tail))
            yield f"*{ours.name} / {peer.name}* | {columns}"


def _range(values: list[float], form: str) -> str:
    return f"**{statistics.median(values):{form}}** ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    sys.exit(main())
