"""Who is the primary, and what is done so that there is one: a pure function of facts and memory.

Three promises, each a property in `tests/databases/replication/test_failover_properties.py`:

1. Never two primaries. A node is promoted only after the old primary is fenced: nothing it does is acknowledged.
2. No acknowledged commit is lost while commits are synchronous. `Memory.guard` names replicas of which the most
   advanced has all of them, and that can only be told when all of them are seen.
3. Where the facts allow it, there is a primary again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .topology import UNKNOWN, Memory, NodeFacts, Stream

Facts = Mapping[str, NodeFacts]

_ADRIFT_S = 6.0
"""A replica that has not found its primary after this time needs to be rewound or copied."""
_ABSENT_S = 1.0
"""A replica that reconnects within this time stays one that commits wait for."""
_LET_GO_S = 1.0
"""How long replicas may take in what a fenced primary had sent before they are compared."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide."""

    synchronous: bool
    failover: bool
    """Whether nodes are promoted here, or by others."""
    own: bool
    """Whether the nodes are ours to start, end and copy."""
    failures: int
    """Failed probes in a row that make a node count as down."""
    stall_ms: int
    """A replica that is behind for longer is not waited for."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """All is as it should be, or not yet known to be otherwise."""


@dataclass(frozen=True, slots=True)
class HoldWrites:
    """Nobody may write for now."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave the role where it is, though the node does not answer: it may only be slow, and nobody can take over."""

    node: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Make sure that the node acknowledges nothing more."""

    node: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a replica the primary, which waits for `followers` from its first commit."""

    node: str
    followers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take a node as the primary that others have promoted."""

    node: str


@dataclass(frozen=True, slots=True)
class Repoint:
    """Have replicas follow another node."""

    nodes: frozenset[str]
    to: str


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Bring a node back as a replica: start it, rewind it first where it was a primary."""

    node: str
    how: Literal["start", "rewind", "copy"]
    """As it is; after what it has beyond the primary is taken back; or by a new copy of all."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the primary again where it was."""

    node: str


@dataclass(frozen=True, slots=True)
class Synchronous:
    """Have the primary wait, with each commit, for any one of these; for none when empty."""

    names: frozenset[str]


Action = Nothing | HoldWrites | Keep | Fence | Promote | Adopt | Repoint | Rejoin | Restart | Synchronous


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    reason: str
    writable: str | None
    """Where writes go meanwhile; None holds them."""
    memory: Memory
    soon: bool = False
    """Whether the next look should come at once: what is waited for takes milliseconds."""


def decide(now_s: float, facts: Facts, memory: Memory, rules: Rules) -> Decision:
    """One step. The caller keeps `memory` (on disk before it acts), acts, and asks again with new facts."""
    memory = _count_failures(facts, memory)
    other = _promoted_elsewhere(facts, memory, rules)
    if other is not None:
        reason = f"it is a primary on timeline {other.timeline}, and {memory.primary} is none on a later one"
        known = replace(
            memory, primary=other.name, timeline=other.timeline, promoting=False, told=UNKNOWN, guard=None, mark=None
        )
        return Decision(Adopt(other.name), reason, other.name, known)
    if memory.promoting:
        return _finish_promotion(now_s, facts, memory, rules)
    primary = facts[memory.primary]
    failure = _failure(primary, memory, rules)
    if failure is None:
        return _tend(now_s, facts, memory, rules)
    if failure == "":
        return Decision(Nothing(), "a probe of the primary has failed; waiting for the next", primary.name, memory)
    return _replace(now_s, facts, memory, rules, failure)


def _count_failures(facts: Facts, memory: Memory) -> Memory:
    """Probes count only in rounds that somebody answered: when nobody does, this machine may be what is slow."""
    somebody = any(node.reachable for node in facts.values()) or len(facts) == 1
    failures = {}
    for name, node in facts.items():
        before = memory.failures.get(name, 0)
        well = node.reachable and not node.write_failure
        failures[name] = 0 if well else before if node.reachable is None or not somebody else min(before + 1, 1_000)
    return replace(memory, failures=failures)


def _failure(primary: NodeFacts, memory: Memory, rules: Rules) -> str | None:
    """Why the primary is none any more; empty when that is not sure yet, None when it is well."""
    if primary.process == "exited":
        return f"the process of {primary.name} has ended"
    if primary.reachable and primary.in_recovery:
        return f"{primary.name} is a replica now"
    if primary.reachable and primary.timeline < memory.timeline:
        return f"{primary.name} is on timeline {primary.timeline}, and the group was on {memory.timeline} already"
    if memory.failures[primary.name] == 0 and primary.reachable:
        return None
    if memory.failures[primary.name] < rules.failures:
        return ""
    count = memory.failures[primary.name]
    return f"{primary.name} {primary.write_failure or primary.trouble or 'does not answer'} ({count} probes in a row)"


def _promoted_elsewhere(facts: Facts, memory: Memory, rules: Rules) -> NodeFacts | None:
    """A primary on a later timeline than ever seen; of nodes that others manage, also one in place of ours."""
    found = [n for n in facts.values() if n.name != memory.primary and n.reachable and n.in_recovery is False]
    if not found:
        return None
    best = max(found, key=lambda node: (node.timeline, node.name))
    ours = facts[memory.primary]
    lost = not memory.promoting and (ours.in_recovery is True or memory.failures[ours.name] >= rules.failures)
    if best.timeline > memory.timeline or (not rules.own and lost and best.timeline >= memory.timeline):
        return best
    return None


# The primary has failed


def _replace(now_s: float, facts: Facts, memory: Memory, rules: Rules, failure: str) -> Decision:
    primary = facts[memory.primary]
    if primary.busy:
        return Decision(HoldWrites(), f"{failure}; it is {primary.busy}", None, memory)
    if not rules.failover:
        reason = f"{failure}; waiting for whoever manages these nodes to promote one (failover = false)"
        return _restart_or_hold(now_s, primary, memory, rules, reason)
    best, obstacle = _candidate(facts, memory, rules)
    if best is None:
        return _restart_or_hold(now_s, primary, memory, rules, f"{failure}; {obstacle}")
    if not primary.fenced:
        return Decision(Fence(primary.name), f"{failure}; {best.name} will take over", None, memory)
    since = now_s if memory.fenced_since_s is None else memory.fenced_since_s
    receiving = sorted(node.name for node in _candidates(facts, memory) if node.receiving)
    if receiving and now_s - since < _LET_GO_S:
        # Who is ahead can still change. Whoever had more than the new primary could not follow it.
        reason = f"{failure}; {' and '.join(receiving)} still takes in what it had sent"
        return Decision(HoldWrites(), reason, None, replace(memory, fenced_since_s=since), soon=True)
    others = frozenset(node.name for node in _candidates(facts, memory) if node.name != best.name)
    followers = others if rules.synchronous else frozenset()
    known = replace(
        memory, primary=best.name, promoting=True, told=followers, guard=None, mark=None, fenced_since_s=None
    )
    return Decision(Promote(best.name, followers), f"{failure}; {obstacle}", None, known)


def _candidates(facts: Facts, memory: Memory) -> list[NodeFacts]:
    return [
        node
        for node in facts.values()
        if node.name != memory.primary
        and node.reachable
        and node.in_recovery
        and node.timeline == memory.timeline
        and not node.disk_full
        and not node.busy
    ]


def _candidate(facts: Facts, memory: Memory, rules: Rules) -> tuple[NodeFacts | None, str]:
    """Who can take over without a loss and why that one, or None and why nobody can."""
    candidates = _candidates(facts, memory)
    if len(facts) == 1:
        return None, "there is no replica"
    if not candidates:
        return None, "no replica can be reached that has followed it"
    best = max(candidates, key=lambda node: (node.position, node.name))
    if not rules.synchronous:
        return (
            best,
            f"{best.name} is the most advanced that is seen; commits that it lacks are lost (synchronous = false)",
        )
    if memory.guard is None:
        return None, "no replica is sure to have every acknowledged commit: none had been waited for"
    unseen = sorted(memory.guard - {node.name for node in candidates})
    if unseen:
        return None, f"{' and '.join(unseen)} may have acknowledged commits that {best.name} lacks"
    unsettled = sorted(node.name for node in candidates if not node.settled)
    if unsettled:
        return None, f"{' and '.join(unsettled)} still reads what it has"
    return best, f"{best.name} is the most advanced of {len(candidates)} and has every acknowledged commit"


def _restart_or_hold(now_s: float, primary: NodeFacts, memory: Memory, rules: Rules, reason: str) -> Decision:
    if rules.own and primary.process != "exited" and not primary.reachable and not memory.promoting:
        return Decision(Keep(primary.name), reason, primary.name, memory)
    if not rules.own or primary.process != "exited":
        return Decision(HoldWrites(), reason, None, memory)
    if now_s < memory.attempt_at_s.get(primary.name, now_s):
        return Decision(HoldWrites(), f"{reason}; it is started again in a moment", None, memory)
    return Decision(
        Restart(primary.name), f"{reason}; it has its own data", None, _with_attempt(now_s, primary.name, memory)
    )


def _finish_promotion(now_s: float, facts: Facts, memory: Memory, rules: Rules) -> Decision:
    """A promotion was decided and is on disk: it is carried through, also after a restart of Trimaran itself."""
    chosen = facts[memory.primary]
    if chosen.reachable and chosen.in_recovery is False:
        known = replace(memory, promoting=False, timeline=max(memory.timeline, chosen.timeline))
        return Decision(Nothing(), f"{chosen.name} is the primary on timeline {chosen.timeline}", chosen.name, known)
    if chosen.reachable and not chosen.busy:
        reason = f"the promotion of {chosen.name} was decided and is not complete"
        return Decision(Promote(chosen.name, memory.told), reason, None, memory)
    reason = f"{chosen.name} was to be promoted and {chosen.trouble or 'does not answer'}"
    if chosen.busy:
        return Decision(HoldWrites(), reason, None, memory)
    return _restart_or_hold(now_s, chosen, memory, rules, reason)


# The primary is well


def _tend(now_s: float, facts: Facts, memory: Memory, rules: Rules) -> Decision:
    """One thing at a time that makes the group whole, the most urgent first."""
    primary = facts[memory.primary]
    memory = _tend_memory(now_s, facts, memory)
    nothing = Decision(Nothing(), f"{primary.name} is the primary", primary.name, memory)
    manages = rules.failover
    if manages and (change := _synchronous(now_s, facts, memory, rules)) is not None:
        return change
    if primary.disk_full and rules.failover:
        best, obstacle = _candidate(facts, memory, rules)
        if best is not None:
            reason = f"the disk of {primary.name} is full; {obstacle}"
            return Decision(Fence(primary.name), reason, None, memory)
    if manages and (stray := _stray(facts, memory)):
        reason = f"{', '.join(sorted(stray))} follows another node than the primary"
        return Decision(Repoint(stray, primary.name), reason, primary.name, memory)
    if rules.own:
        return _bring_back(now_s, facts, memory) or nothing
    return nothing


def _tend_memory(now_s: float, facts: Facts, memory: Memory) -> Memory:
    primary = facts[memory.primary]
    streaming = {stream.node for stream in primary.streams if stream.streaming}
    # One that cannot follow connects again and again; one that catches up moves.
    adrift = {
        node.name: memory.adrift_since_s.get(node.name, now_s)
        for node in facts.values()
        if node.name not in streaming | {primary.name} and node.reachable and not node.busy and not node.moving
    }
    absent = {name: memory.absent_since_s.get(name, now_s) for name in memory.told - streaming}
    attempts = {name: count for name, count in memory.attempts.items() if name not in streaming | {primary.name}}
    memory = replace(
        memory,
        timeline=primary.timeline,
        adrift_since_s=adrift,
        absent_since_s=absent,
        attempts=attempts,
        fenced_since_s=None,
    )
    return _guarded(primary, memory)


def _guarded(primary: NodeFacts, memory: Memory) -> Memory:
    """Whether those that are waited for have all commits by now, also the ones from before they were."""
    told = [stream for stream in primary.streams if stream.node in memory.told]
    # A replica that is still waited for by an earlier order could confirm a commit that no other has.
    in_force = told and all(stream.waited_for == (stream.node in memory.told) for stream in primary.streams)
    if not in_force or memory.guard == memory.told:
        return memory
    if memory.mark is None:
        # The order to wait has arrived everywhere. What was acknowledged before is not beyond this position.
        return replace(memory, mark=primary.position)
    if max(stream.flushed for stream in told) >= memory.mark:
        return replace(memory, guard=memory.told)
    return memory


def _synchronous(now_s: float, facts: Facts, memory: Memory, rules: Rules) -> Decision | None:
    primary = facts[memory.primary]
    found = {stream.node for stream in primary.streams if _counts(stream, facts, memory, rules)}
    found |= {
        name for name, since in memory.absent_since_s.items() if _may_return(name, now_s - since, facts, memory, rules)
    }
    live = frozenset(found) if rules.synchronous else frozenset()
    if live == memory.told:
        return None
    both_sure = memory.guard is not None and bool(live)
    guard = memory.guard | live if both_sure and memory.guard is not None else None
    known = replace(memory, told=live, guard=guard, mark=None)
    gone = sorted(memory.told - live - UNKNOWN)
    if not live:
        nobody = "no replica keeps up" if rules.synchronous else "synchronous = false"
        lost = f"{' and '.join(gone)} is gone" if gone else nobody
        reason = f"{lost}: commits are acknowledged without a replica, and the primary's disk alone has them"
    else:
        added = sorted(live - memory.told)
        parts = [f"{' and '.join(added)} keeps up"] if added else []
        parts += [f"{' and '.join(gone)} is gone"] if gone else []
        reason = f"{', '.join(parts)}: each commit waits for one of {', '.join(sorted(live))}"
    return Decision(Synchronous(live), reason, primary.name, known)


def _counts(stream: Stream, facts: Facts, memory: Memory, rules: Rules) -> bool:
    """Whether a replica can be waited for."""
    node = facts.get(stream.node)
    return (
        node is not None
        and stream.streaming
        and stream.behind_ms <= rules.stall_ms
        and node.process != "exited"
        and memory.failures[node.name] < rules.failures
    )


def _may_return(name: str, absent_s: float, facts: Facts, memory: Memory, rules: Rules) -> bool:
    """Whether a replica that is waited for has only just lost its connection."""
    node = facts.get(name)
    well = node is not None and node.process != "exited" and memory.failures[name] < rules.failures
    return well and absent_s < _ABSENT_S


def _stray(facts: Facts, memory: Memory) -> frozenset[str]:
    return frozenset(
        node.name
        for node in facts.values()
        if node.name != memory.primary
        and node.reachable
        and node.in_recovery
        and not node.busy
        and node.upstream != memory.primary
    )


def _bring_back(now_s: float, facts: Facts, memory: Memory) -> Decision | None:
    """The first node that is not where it belongs, and has not just been tried."""
    for name in sorted(facts):
        node = facts[name]
        if name == memory.primary or node.busy or now_s < memory.attempt_at_s.get(name, now_s):
            continue
        reason = ""
        if node.process == "exited":
            reason = f"{name} does not run"
        elif node.reachable and node.in_recovery is False:
            reason = f"{name} is a primary on timeline {node.timeline}, and the group is on {memory.timeline}"
        elif now_s - memory.adrift_since_s.get(name, now_s) >= _ADRIFT_S:
            reason = f"{name} has not found its place in the primary's WAL for {_ADRIFT_S:g} s"
        if reason:
            # Each attempt goes further; after a whole copy it is something else, and not copied over and over.
            steps: tuple[Literal["start", "rewind", "copy"], ...] = ("start", "rewind", "copy")
            first = 0 if node.process == "exited" else 1
            at = first + memory.attempts.get(name, 0)
            how = steps[at] if at < len(steps) else steps[first]
            return Decision(Rejoin(name, how), reason, memory.primary, _with_attempt(now_s, name, memory))
    return None


def _with_attempt(now_s: float, name: str, memory: Memory) -> Memory:
    count = memory.attempts.get(name, 0) + 1
    delay_s = min(_FIRST_DELAY_S * 2 ** min(count - 1, 10), _LONGEST_DELAY_S)
    return replace(
        memory,
        attempts={**memory.attempts, name: count},
        attempt_at_s={**memory.attempt_at_s, name: now_s + delay_s},
        adrift_since_s={other: since for other, since in memory.adrift_since_s.items() if other != name},
    )
