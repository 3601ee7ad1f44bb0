"""Three times more requests than the servers can answer: how many are still answered well?

    python -m benchmarks.servers.overload [--seconds 8] [--rounds 3]

Two servers take 20 ms for a request and four at a time: 400 requests per second is all there is. The proxy lets four at a
time to each and queues the others. Peak is what 16 clients get that send one request after the other. Then requests come
three times as fast as that, whether or not earlier ones were answered (open loop). Good is a 2xx within the patience of a
user, counted from the moment the request was due; per second, and as a share of the peak. HAProxy queues with the same limits.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.servers import contenders, open_loop, weak_servers
from benchmarks.servers.contenders import Contender, Queueing, Running, Work
from benchmarks.servers.open_loop import Arrival, Outcome

SERVERS = 2
TARGET = "/20000"
CLIENTS = 16
TIMES = 3
PATIENCE_S = 1.5
QUEUEING = Queueing(weak_servers.AT_ONCE, timeout_ms=1_000, target_ms=500)


def main() -> int:
    """Measure every proxy and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("\n".join(run(options.seconds, options.rounds)))
    return 0


def run(seconds: float, rounds: int) -> list[str]:
    """Markdown: how much of the peak is left."""
    lines = ["### Overload: three times more requests than capacity", "", f"{rounds} rounds of {seconds:g} s", ""]
    lines += [
        "| proxy | peak, good/s | overloaded, good/s | of peak (range) | median ms of good ones | refused | late |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for contender in contenders.present("trimaran", "haproxy"):
        lines.append(asyncio.run(_row(contender, seconds, rounds)))
    return lines


async def _row(contender: Contender, seconds: float, rounds: int) -> str:
    shares, peaks, goods, medians, refused, late = [], [], [], [], 0, 0
    for _ in range(rounds):
        async with weak_servers.serving([1.0] * SERVERS) as servers:
            with (
                tempfile.TemporaryDirectory(prefix="trimaran-bench-") as directory,
                contender.start(Path(directory), Work(servers, queueing=QUEUEING)) as proxy,
            ):
                peak = await closed_loop(proxy, seconds / 2)
                rate = peak * TIMES
                arrivals = (Arrival(number / rate, TARGET) for number in range(int(rate * seconds)))
                outcomes = await open_loop.send(proxy.port, arrivals)
        waits = [outcome.took_s for outcome in outcomes if _is_good(outcome)]
        peaks.append(peak)
        # What was still queued when the last request came is answered after that, and no part of the rate.
        in_time = sum(_is_good(outcome) and outcome.arrival.due_s + outcome.took_s <= seconds for outcome in outcomes)
        goods.append(in_time / seconds)
        shares.append(goods[-1] / peak)
        medians.append(statistics.median(waits) * 1000 if waits else float("nan"))
        refused += sum(outcome.status != 200 for outcome in outcomes)
        late += sum(outcome.status == 200 and not _is_good(outcome) for outcome in outcomes)
    peak, good, share, wait = (statistics.median(own) for own in (peaks, goods, shares, medians))
    spread = f"**{share:.2f}** ({min(shares):.2f} to {max(shares):.2f})"
    return f"| {contender.name} | {peak:.0f} | {good:.0f} | {spread} | {wait:.0f} | {refused} | {late} |"


def _is_good(outcome: Outcome) -> bool:
    return outcome.status == 200 and outcome.took_s <= PATIENCE_S


async def closed_loop(proxy: Running, seconds: float) -> float:
    """Good answers per second when every client waits for its answer."""
    good = 0

    async def client() -> None:
        nonlocal good
        connection = await asyncio.open_connection("127.0.0.1", proxy.port)
        while time.monotonic() < end:
            # On a line of its own: `good += await ...` would add to the value from before the wait.
            status = await open_loop.ask(connection, TARGET)
            good += status == 200
        connection[1].close()

    end = time.monotonic() + seconds
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return good / seconds


if __name__ == "__main__":
    sys.exit(main())
