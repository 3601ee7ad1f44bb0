"""The scaler's loop: facts up, signals, decision, act. The only place that acts on a scaling decision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from trimaran.config.model import Scaling
from trimaran.facts import Facts
from trimaran.journal import Journal
from trimaran.servers.group import Group

from .policy import Memory, decide
from .signals import Window


async def run(group: Group, read_facts: Callable[[], Facts], settings: Callable[[], Scaling], journal: Journal) -> None:
    """Keeps `group` at the count that its load asks for, for as long as its pool has a range. Ends when cancelled."""
    window = Window(settings().window_s)
    memory = Memory()
    limit_told = False
    while True:
        scaling = settings()
        await asyncio.sleep(scaling.interval_ms / 1000)
        facts = read_facts()
        pool = next((pool for pool in facts.pools if pool.name == group.name), None)
        allowed = group.pool.count
        if pool is None or allowed.least == allowed.most:
            continue
        signals = window.add(facts.at_ms, pool)
        decision = decide(time.monotonic(), signals, group.count, allowed, scaling, memory)
        memory = decision.memory
        at_limit = group.count == allowed.most and decision.reason.startswith("at the upper end")
        if at_limit and not limit_told:
            journal.decide(group.name, f"stay at {group.count} servers", decision.reason)
        limit_told = at_limit
        if decision.count != group.count:
            journal.decide(group.name, f"scale from {group.count} to {decision.count} servers", decision.reason)
            group.scale(decision.count)
