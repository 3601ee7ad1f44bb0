"""From nodes to facts: one round asks all of them at once, and never takes longer than the limit of a probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from .lag import Lag
from .nodes import Node
from .topology import NodeFacts, Stream

_SETTLED_S = 2.0
"""A replica that has got no WAL since its start has read all of its own when its position stays for this time."""
_LATE_S = 0.1
"""A round that takes this much longer than its limit says something about this machine, not about the nodes."""


_GLANCE_S = 0.01
"""How long a primary that is being replaced is waited for."""


class Observer:
    """Looks at the nodes of one group."""

    def __init__(self, nodes: Mapping[str, Node], timeout_s: float) -> None:
        """`nodes` may change between rounds."""
        self._nodes = nodes
        self._timeout_s = timeout_s
        self.flushed = Lag()
        self.applied = Lag()
        self._source = ""

    async def round(self, primary: str, *, is_down: bool = False) -> dict[str, NodeFacts]:
        """The facts of now. `primary` is the one whose positions the others are compared with.

        Where it is down and being replaced (`is_down`), everybody waits for the others' answers, and not for its.
        """
        began = time.monotonic()
        nodes = list(self._nodes.values())
        answered = await asyncio.gather(
            *(node.look(_GLANCE_S if is_down and node.name == primary else None) for node in nodes)
        )
        now = time.monotonic()
        late = now - began > self._timeout_s + _LATE_S
        if primary != self._source:
            self._source = primary
            self.flushed.forget()
            self.applied.forget()
        of_primary = self._nodes[primary]
        if of_primary.sight is not None and not of_primary.trouble and not of_primary.sight.in_recovery:
            self.flushed.note(now, of_primary.sight.position)
            self.applied.note(now, of_primary.sight.applied)
        return {
            node.name: self._facts(node, primary, True if well else None if late else False, now)
            for node, well in zip(nodes, answered, strict=True)
        }

    def _facts(self, node: Node, primary: str, reachable: bool | None, now: float) -> NodeFacts:
        sight = node.sight
        if node.process == "exited":
            reachable = False
        return NodeFacts(
            name=node.name,
            process=node.process,
            reachable=reachable,
            in_recovery=sight.in_recovery if sight else None,
            timeline=node.timeline,
            position=sight.position if sight else 0,
            settled=sight is not None and (sight.settled or now - node.moved_at_s >= _SETTLED_S),
            receiving=sight is not None and sight.receiving,
            moving=now - node.moved_at_s < _SETTLED_S,
            upstream=self._name_at(node.upstream_endpoint),
            streams=self._streams(node, now) if node.name == primary else (),
            write_failure=node.probe.write_failure if node.name == primary else "",
            fenced=node.name == primary and self._is_fenced(node),
            disk_full=node.disk_full(),
            busy=node.busy,
            trouble=node.trouble,
        )

    def _streams(self, node: Node, now: float) -> tuple[Stream, ...]:
        if node.sight is None:
            return ()
        known = {other.stream_name: other.name for other in self._nodes.values() if other is not node}
        return tuple(
            Stream(
                node=known[connected.application_name],
                streaming=connected.state == "streaming",
                waited_for=connected.waited_for,
                flushed=connected.flushed,
                behind_ms=self.flushed.behind_ms(now, connected.flushed),
            )
            for connected in node.sight.streams
            if connected.application_name in known
        )

    def _is_fenced(self, primary: Node) -> bool:
        """Ours: no process is left. Of others: whoever could confirm a commit has let go of it."""
        if primary.own:
            return primary.is_gone()
        others = [
            n for n in self._nodes.values() if n is not primary and n.sight and not n.trouble and n.sight.in_recovery
        ]
        return bool(others) and all(self._name_at(node.upstream_endpoint) is None for node in others)

    def _name_at(self, endpoint: tuple[str, int] | None) -> str | None:
        return (
            next((node.name for node in self._nodes.values() if node.endpoint == endpoint), None) if endpoint else None
        )
