"""The benchmarks of the servers: what their figures are made from, and that a small choice of them runs."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import weak_servers
from benchmarks.servers.contenders.process import installed
from benchmarks.servers.loads import Sample
from benchmarks.servers.open_loop import Arrival, Outcome, send
from benchmarks.servers.proxies import ratio, summary
from benchmarks.servers.tail import TROUBLES

ROOT = Path(__file__).parents[2]


def samples(*cpu_us: float) -> list[Sample]:
    return [Sample(each, 1.0, 1.0, 1.0) for each in cpu_us]


def test_ours_is_compared_with_the_best_of_the_others_in_the_same_round() -> None:
    raced = {"trimaran": samples(10, 12, 30), "haproxy": samples(20, 10, 40), "nginx": samples(10, 20, 50)}
    assert ratio(raced, "haproxy") == "0.75 (0.50 to 1.20)"
    assert ratio(raced, "haproxy", "nginx") == "1.00 (0.75 to 1.20)"
    assert ratio({"trimaran": samples(10)}, "haproxy", "nginx") == "-"


def test_the_summary_says_which_goals_are_met() -> None:
    lines = summary(
        {"1k": {"trimaran": samples(8), "nginx": samples(10)}, "tls": {"trimaran": samples(9.5), "nginx": samples(10)}}
    )
    assert lines[2].endswith("| 0.80 (0.80 to 0.80) | met |")
    assert lines[3].endswith("| 0.95 (0.95 to 0.95) | missed |")


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.title)
def test_arrivals_are_the_same_for_everyone_and_as_many_as_said(trouble: object) -> None:
    assert isinstance(trouble, type(TROUBLES[0]))
    arrivals = trouble.arrivals(20, seed=1)
    assert arrivals == trouble.arrivals(20, seed=1)
    assert arrivals != trouble.arrivals(20, seed=2)
    assert len(arrivals) == pytest.approx(20 * trouble.rate, rel=0.05)
    assert all(one.due_s <= other.due_s for one, other in itertools.pairwise(arrivals))


def test_the_wait_for_slow_answers_counts_from_the_moment_that_was_due() -> None:
    """Eight requests are due at once, at a server that works on four: the later ones have waited for the earlier."""

    async def outcomes() -> list[Outcome]:
        async with weak_servers.serving([1.0]) as servers:
            return await send(int(servers[0].rpartition(":")[2]), [Arrival(0.0, "/200000")] * 8)

    took = sorted(outcome.took_s for outcome in asyncio.run(outcomes()))
    assert len(took) == 8
    assert took[0] >= 0.2
    assert took[4] >= 0.4


@pytest.mark.skipif(
    not (installed("wrk") and installed("nginx") and shutil.which("h2load")), reason="needs wrk, h2load and nginx"
)
def test_a_row_runs_and_prints_its_tables() -> None:
    choice = ["--rows", "1k-unix,h2", "--rounds", "1", "--seconds", "1", "--proxies", "trimaran,nginx"]
    command = [sys.executable, "-m", "benchmarks.servers", *choice]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    for words in (
        "trimaran 0",
        "nginx 1",
        "### HTTP/1.1, 1 KiB, servers on Unix sockets",
        "### HTTP/2 over TLS",
        "ours / it",
    ):
        assert words in said.stdout


def test_an_unknown_row_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks.servers", "--rows", "1k,nonsense"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 2
    assert "'nonsense': expected one of 1k," in said.stderr
