"""The loop of a group: facts, decision, action, and whoever needs to know is told. The only place that acts on decisions."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from trimaran.errors import DatabaseError
from trimaran.journal import Journal

from .actions import Actions
from .failover import (
    Adopt,
    Decision,
    Fence,
    HoldWrites,
    Keep,
    Nothing,
    Promote,
    Rejoin,
    Repoint,
    Restart,
    Rules,
    Synchronous,
    decide,
)
from .line import looked_at
from .nodes import Node
from .observe import Observer
from .topology import UNKNOWN, Memory, NodeFacts

_SOON_S = 0.005
_ORDER_S = 0.5
_DOUBT_S = 0.12
"""How long an order may take before it is asked whether the primary is there at all, and how long that may take."""
_HASTE = 3
"""How much faster a primary that is suspended is looked at again."""
_TOLD_AGAIN_S = 30.0
"""A state that goes on is said again only when its words have changed, and not more often than this."""


class Loop:
    """Keeps one group whole. Belongs to one event loop."""

    def __init__(
        self,
        group: str,
        nodes: dict[str, Node],
        rules: Rules,
        observer: Observer,
        actions: Actions,
        journal: Journal,
        keep: Callable[[Memory], None],
        publish: Callable[[], Awaitable[None]],
        memory: Memory,
        interval_s: float,
    ) -> None:
        """`keep` writes memory to disk before something is done; `publish` tells of members and of where to write."""
        self.memory = memory
        self.facts: dict[str, NodeFacts] = {}
        self.writable: str | None = None
        """Where writes go; None while nobody may write."""
        self.hands_over = False
        """Whether the primary is well and gives its role away: then what is under way on it may end."""
        self.exclusive = asyncio.Lock()
        """Held during a step, and by commands that must not be decided against meanwhile."""
        self._group = group
        self._nodes = nodes
        self._rules = rules
        self._observer = observer
        self._actions = actions
        self._journal = journal
        self._keep = keep
        self._publish = publish
        self._interval_s = interval_s
        self._is_replacing = False
        """Whether the primary is fenced, and the next look is to tell who takes over."""
        self._wake = asyncio.Event()
        self._watched: dict[int, int] = {}
        """Processes whose end wakes the loop: pid to descriptor."""
        self._work: dict[str, asyncio.Task[None]] = {}
        """What is under way in the background, by node."""
        self._told: tuple[str, str] = ("", "")
        self._told_at_s = 0.0
        self._complaints: dict[str, str] = {}

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            began = time.monotonic()
            try:
                async with self.exclusive:
                    settled = await self.step()
            except DatabaseError as error:
                self._complain(self._group, str(error))
                settled = True
            except Exception as error:  # A bug must not end the watch over a database.
                self._complain(self._group, "".join(traceback.format_exception(error)).rstrip())
                settled = True
            if settled:
                # Not wait_for: in Python 3.11 it can swallow a cancellation that comes together with the event.
                with suppress(TimeoutError):
                    # A round that has waited for a node in vain is followed by the next at once.
                    async with asyncio.timeout(max(self._pause_s() - (time.monotonic() - began), 0.001)):
                        await self._wake.wait()
            else:
                await asyncio.sleep(_SOON_S)
            self._wake.clear()

    async def step(self) -> bool:
        """One look, one decision, one action; whether there is nothing more to do for now."""
        self._watch_processes()
        self.facts = await self._observer.round(self.memory.primary, is_down=self._is_replacing)
        self._is_replacing = False
        decision = decide(time.monotonic(), self.facts, self.memory, self._rules)
        self.memory = decision.memory
        self._keep(self.memory)
        self._tell(decision)
        if decision.writable != self.writable and not isinstance(decision.action, Promote):
            self.writable = decision.writable
            await self._publish()
        has_failed = False
        try:
            await self._act(decision)
        except DatabaseError as error:
            has_failed = True
            self._complain(self.memory.primary, f"{_named(decision)} has failed: {error}")
            if isinstance(decision.action, Synchronous):
                # Whether the old or the new order is in force is not known; the guard holds for both.
                self.memory = replace(self.memory, told=UNKNOWN)
        await self._publish()
        self._is_replacing = not has_failed and (decision.soon or isinstance(decision.action, Fence))
        # What has failed is tried again after the usual time, or at once when the end of a process may be why.
        return has_failed or (
            not decision.soon and isinstance(decision.action, Nothing | HoldWrites | Keep | Rejoin | Restart)
        )

    def _pause_s(self) -> float:
        """From look to look. How a process is says the kernel, which no load makes late: that is asked again sooner."""
        primary = self._nodes.get(self.memory.primary)
        is_suspended = primary is not None and primary.is_suspended()
        return self._interval_s / _HASTE if is_suspended else self._interval_s

    async def close(self) -> None:
        """Gives up what is under way and lets go of all connections."""
        for task in self._work.values():
            task.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)
        for pid in list(self._watched):
            self._unwatch(pid)
        await asyncio.gather(*(node.probe.close() for node in self._nodes.values()))

    async def carry_out(self, action: Promote) -> None:
        """A promotion that was decided elsewhere: it is remembered first, then done. The caller holds `exclusive`."""
        self.memory = replace(
            self.memory, primary=action.node, promoting=True, told=action.followers, guard=None, mark=None
        )
        self._keep(self.memory)
        await self._act(Decision(action, "", None, self.memory))

    async def hold(self) -> None:
        """Stops writes. Returns when everybody has been told. The caller holds `exclusive`."""
        self.writable, self.hands_over = None, True
        try:
            await self._publish()
        finally:
            self.hands_over = False

    def in_background(self, name: str, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Does something with one node, which is left alone otherwise until it is done."""
        node = self._nodes[name]
        node.busy = what

        async def do() -> None:
            try:
                await work
                self._complaints.pop(name, None)
            except DatabaseError as error:
                self._complain(name, str(error))
            except Exception as error:  # A bug must not leave the node marked as busy without a word.
                self._complain(name, "".join(traceback.format_exception(error)).rstrip())
            finally:
                node.busy = ""
                self._work.pop(name, None)
                self._wake.set()

        task = asyncio.create_task(do())
        self._work[name] = task
        return task

    async def _act(self, decision: Decision) -> None:
        match decision.action:
            case Fence(node):
                await self._actions.fence(node)
            case Promote(node, followers):
                self.memory = replace(
                    self.memory, timeline=await self._actions.promote(node, followers), promoting=False
                )
                self._keep(self.memory)
                self.writable = node
                await self._publish()
                await self._actions.followed(_ORDER_S)
                self._journal.say(self._group, f"{node} is the primary, on timeline {self.memory.timeline}")
            case Adopt():
                await self._order(self._actions.keep_slots(self.memory.primary))
            case Repoint(names, to):
                await self._order(self._actions.repoint(names, to))
            case Synchronous(names):
                await self._order(self._actions.wait_for(self.memory.primary, names))
            case Rejoin(node, how):
                work = self._actions.rejoin(node, self.memory.primary, how)
                self.in_background(node, "joining", work)
            case Restart(node):
                self.in_background(node, "starting", self._restart(node))
            case Nothing() | HoldWrites() | Keep():
                pass

    async def _order(self, work: Coroutine[Any, Any, None]) -> None:
        """An order to a node that seems well. Raises DatabaseError when it takes long: then the node is to be looked at.

        A primary that neither carries it out nor answers has failed its first probe by that. The order is not cancelled,
        because PostgreSQL's client would wait for a node that hangs; its own limits end it.
        """
        task = asyncio.create_task(work)
        task.add_done_callback(looked_at)
        done, _ = await asyncio.wait({task}, timeout=_DOUBT_S)
        if not done:
            name = self.memory.primary
            if not await self._nodes[name].look(_DOUBT_S):
                failures = {**self.memory.failures, name: self.memory.failures.get(name, 0) + 1}
                self.memory = replace(self.memory, failures=failures)
                raise DatabaseError(f"{name} does not answer")
            done, _ = await asyncio.wait({task}, timeout=_ORDER_S)
            if not done:
                raise DatabaseError(f"no answer within {_DOUBT_S + _ORDER_S:g} s")
        task.result()

    async def _restart(self, name: str) -> None:
        await self._actions.restart(name)
        if not self.memory.promoting:
            await self._actions.settle_primary(name)

    def _tell(self, decision: Decision) -> None:
        """Every decision with its reason into the journal; one that goes on is told once."""
        name = _named(decision)
        if name == "":
            self._told = ("", "")
            return
        said, now = (name, decision.reason), time.monotonic()
        if isinstance(decision.action, HoldWrites | Keep) and (
            said == self._told or (name == self._told[0] and now - self._told_at_s < _TOLD_AGAIN_S)
        ):
            return
        self._told, self._told_at_s = said, now
        self._journal.decide(self._group, name, decision.reason)

    def _complain(self, name: str, text: str) -> None:
        """Says once what fails again and again."""
        if self._complaints.get(name) != text:
            self._complaints[name] = text
            self._journal.say(name, text)

    def _watch_processes(self) -> None:
        pids = {node.pid for node in self._nodes.values() if node.pid is not None}
        for pid in set(self._watched) - pids:
            self._unwatch(pid)
        for pid in pids - set(self._watched):
            with suppress(OSError):
                descriptor = os.pidfd_open(pid)
                self._watched[pid] = descriptor
                asyncio.get_running_loop().add_reader(descriptor, self._on_end, pid)

    def _on_end(self, pid: int) -> None:
        self._unwatch(pid)
        self._wake.set()

    def _unwatch(self, pid: int) -> None:
        descriptor = self._watched.pop(pid, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def _named(decision: Decision) -> str:
    """The decision as a few words; empty for none."""
    match decision.action:
        case Nothing():
            return ""
        case HoldWrites():
            return "hold writes"
        case Keep(node):
            return f"keep {node}"
        case Fence(node):
            return f"fence {node}"
        case Promote(node):
            return f"promote {node}"
        case Adopt(node):
            return f"take {node} as the primary"
        case Repoint(names, to):
            return f"point {', '.join(sorted(names))} to {to}"
        case Rejoin(node, how):
            return {"start": f"bring {node} back", "rewind": f"rewind {node}", "copy": f"copy {node} again"}[how]
        case Restart(node):
            return f"restart {node}"
        case Synchronous(names):
            return f"commit on {', '.join(sorted(names))} too" if names else "commit without replicas"
