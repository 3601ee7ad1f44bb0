"""The slowest hundredth of requests when servers or requests are unequal: every policy of ours, and the peers' best ones.

    python -m benchmarks.servers.tail [--seconds 10] [--rounds 1]

Four servers work on four requests at a time (`weak_servers`). Two kinds of trouble: one server is three times slower than the
others; or 5 % of the requests take fifty times longer. Requests come at a fixed share of what the servers can do all together, as
Poisson arrivals, and how long one takes counts from when it was due (`open_loop`). Arrivals and lengths are drawn from a
seed, so everyone gets the same ones. The first second is not counted.

Proxies do not limit requests in flight here, so what differs is the choice of the server; rows that say "4 at a time" do,
and queue the rest themselves, which is how Trimaran runs WSGI apps (HAProxy: `maxconn 4`). `first` has no meaning without
a limit and runs with it only.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.servers import contenders, weak_servers
from benchmarks.servers.contenders import Queueing, Work
from benchmarks.servers.contenders.trimaran import POLICIES
from benchmarks.servers.open_loop import Arrival, Outcome, send

SETTLING_S = 1.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is unequal."""

    title: str
    slowness: tuple[float, ...]
    """By how much each server is slower than it should be."""
    long_share: float
    long_times: float
    length_us: int
    """Mean service time of a usual request on a usual server."""
    load: float
    """Arrivals as a share of what the servers can do."""

    @property
    def rate(self) -> float:
        """Arrivals per second."""
        mean_s = self.length_us * (1 - self.long_share + self.long_share * self.long_times) / 1e6
        return self.load * sum(weak_servers.AT_ONCE / (mean_s * slow) for slow in self.slowness)

    def arrivals(self, seconds: float, seed: int) -> list[Arrival]:
        """Requests to come, from half to one and a half times the mean length, some of them long."""
        chance = random.Random(seed)
        found: list[Arrival] = []
        now = 0.0
        while (now := now + chance.expovariate(self.rate)) < seconds:
            is_long = chance.random() < self.long_share
            length = self.length_us * chance.uniform(0.5, 1.5) * (self.long_times if is_long else 1)
            found.append(Arrival(now, f"/{'long' if is_long else 'usual'}/{len(found)}/{length:.0f}"))
        return found


TROUBLES = (
    Trouble("one of four servers three times slower", (3, 1, 1, 1), 0.0, 1, 10_000, 0.6),
    Trouble("5 % of the requests fifty times longer", (1, 1, 1, 1), 0.05, 50, 4_000, 0.8),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A proxy with a policy."""

    proxy: str
    balance: str
    at_once: int | None = None

    def __str__(self) -> str:
        limit = f", {self.at_once} at a time" if self.at_once else ""
        policy = self.balance if self.proxy == "trimaran" else contenders.ALL[self.proxy].balances[self.balance]
        return f"{self.proxy} {policy.rstrip(';')}{limit}"


ENTRIES = (
    *(Entry("trimaran", name) for name in POLICIES if name != "first"),
    *(Entry("trimaran", name, weak_servers.AT_ONCE) for name in ("first", "round_robin", "least_requests", "prequal")),
    Entry("haproxy", "least_requests"),
    Entry("haproxy", "power_of_two"),
    Entry("haproxy", "least_requests", weak_servers.AT_ONCE),
    Entry("nginx", "least_requests"),
    Entry("envoy", "least_requests"),
)


@dataclass(frozen=True, slots=True)
class Tail:
    """Times of one entry, in milliseconds: medians of the rounds."""

    p50: float
    p99: float
    p99_usual: float
    """Of the requests that are not long themselves."""


def main() -> int:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="per policy, trouble and round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trouble", type=int, choices=range(len(TROUBLES)), help="only this one")
    parser.add_argument("--only", default="", help="entries whose name has this in it")
    options = parser.parse_args()
    troubles = TROUBLES if options.trouble is None else TROUBLES[options.trouble : options.trouble + 1]
    print("\n".join(run(options.seconds, options.rounds, troubles, options.only)))
    return 0


def run(seconds: float, rounds: int = 1, troubles: tuple[Trouble, ...] = TROUBLES, only: str = "") -> list[str]:
    """Markdown: a table for each trouble, and whether the goal is met."""
    lines = []
    for trouble in troubles:
        lines += [f"### Tail: {trouble.title}", ""]
        lines += [f"{trouble.rate:.0f} requests/s, {trouble.load:.0%} of capacity, {rounds} × {seconds:g} s", ""]
        lines += ["| proxy and policy | p50 ms | p99 ms | p99 ms of the usual requests |", "|---|---|---|---|"]
        tails = {}
        for entry in ENTRIES:
            if contenders.present(entry.proxy) and only in str(entry):
                tails[entry] = uvloop.run(_measure(entry, trouble, seconds, rounds))
                print(f"{trouble.title}: {entry} {tails[entry].p99:.0f} ms", file=sys.stderr)
        for entry, tail in sorted(tails.items(), key=lambda item: item[1].p99):
            lines.append(f"| {entry} | {tail.p50:.0f} | **{tail.p99:.0f}** | {tail.p99_usual:.0f} |")
        lines += ["", *_verdict(tails), ""]
    return lines


def _verdict(tails: dict[Entry, Tail]) -> list[str]:
    free = {entry: tail for entry, tail in tails.items() if entry.at_once is None}
    ours = [entry for entry in free if entry.proxy == "trimaran"]
    theirs = [entry for entry in free if entry.proxy != "trimaran"]
    rivals = {entry.balance: free[entry] for entry in ours}
    said = []
    if ours and theirs:
        best, rival = (min(own, key=lambda entry: free[entry].p99) for own in (ours, theirs))
        said.append(f"Without a limit, p99 of the best of ours ({best}) over the best of theirs ({rival}): ")
        said[-1] += f"**{free[best].p99 / free[rival].p99:.2f}** (goal 1)."
    if "prequal" in rivals and "round_robin" in rivals:
        one, other = rivals["prequal"], rivals["round_robin"]
        said.append(f"`prequal` over `round_robin`: **{one.p99 / other.p99:.2f}** (goal 0.5)")
        said[-1] += f", of the usual requests {one.p99_usual / other.p99_usual:.2f}."
    return said


async def _measure(entry: Entry, trouble: Trouble, seconds: float, rounds: int) -> Tail:
    found = [await _round(entry, trouble, seconds, number) for number in range(rounds)]
    p50, p99, usual = (
        statistics.median(own) for own in zip(*((t.p50, t.p99, t.p99_usual) for t in found), strict=True)
    )
    return Tail(p50, p99, usual)


async def _round(entry: Entry, trouble: Trouble, seconds: float, seed: int) -> Tail:
    async with weak_servers.serving(trouble.slowness) as servers:
        with tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory:
            queueing = Queueing(entry.at_once) if entry.at_once else None
            work = Work(servers, balance=entry.balance, queueing=queueing)
            start = contenders.ALL[entry.proxy].start
            # Starting waits for a port without giving way to the servers, which nobody asks yet.
            with start(Path(directory), work) as proxy:
                outcomes = await send(proxy.port, trouble.arrivals(seconds, seed))
    failed = [outcome for outcome in outcomes if outcome.status != 200]
    if failed:
        raise SystemExit(
            f"{entry}: {len(failed)} of {len(outcomes)} requests failed, the first with {failed[0].status}"
        )
    return _tail(outcomes)


def _tail(outcomes: list[Outcome]) -> Tail:
    counted = [outcome for outcome in outcomes if outcome.arrival.due_s >= SETTLING_S]
    usual = [outcome.took_s * 1000 for outcome in counted if outcome.arrival.target.startswith("/usual/")]
    shares = statistics.quantiles([outcome.took_s * 1000 for outcome in counted], n=100)
    return Tail(shares[49], shares[98], statistics.quantiles(usual, n=100)[98])


if __name__ == "__main__":
    sys.exit(main())
