"""Decisions about who is the primary, one situation a row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from trimaran.databases.replication.failover import (
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
from trimaran.databases.replication.topology import UNKNOWN, Memory, NodeFacts, Stream

OWN = Rules(synchronous=True, failover=True, own=True, failures=3, stall_ms=3_000)
ASYNCHRONOUS = replace(OWN, synchronous=False)
FOREIGN = Rules(synchronous=True, failover=False, own=False, failures=3, stall_ms=3_000)
BOTH = frozenset({"b", "c"})
WELL = Memory("a", timeline=1, told=BOTH, guard=BOTH, mark=90)


def primary(name: str = "a", **changed: object) -> NodeFacts:
    streams = (Stream("b", True, True, 100), Stream("c", True, True, 100))
    facts = NodeFacts(name, "running", True, False, timeline=1, position=100, streams=streams)
    return replace(facts, **changed)  # type: ignore[arg-type]


def replica(name: str, **changed: object) -> NodeFacts:
    facts = NodeFacts(name, "running", True, True, timeline=1, position=100, upstream="a")
    return replace(facts, **changed)  # type: ignore[arg-type]


def dead(name: str = "a", fenced: bool = True) -> NodeFacts:
    return NodeFacts(name, "exited", False, False, timeline=1, position=100, fenced=fenced, trouble="does not run")


def ask(*facts: NodeFacts, memory: Memory = WELL, rules: Rules = OWN, now_s: float = 1000.0) -> Decision:
    return decide(now_s, {node.name: node for node in facts}, memory, rules)


def test_a_group_that_is_well_is_left_alone() -> None:
    decision = ask(primary(), replica("b"), replica("c"))
    assert (decision.action, decision.writable) == (Nothing(), "a")


# The primary fails


def test_the_end_of_the_process_counts_at_once_and_the_most_advanced_takes_over() -> None:
    decision = ask(dead(), replica("b", position=100), replica("c", position=120))
    assert decision.action == Promote("c", frozenset({"b"}))
    assert decision.writable is None
    assert (decision.memory.primary, decision.memory.promoting, decision.memory.guard) == ("c", True, None)
    assert "has every acknowledged commit" in decision.reason


def test_replicas_are_compared_when_they_have_taken_in_everything() -> None:
    late = replica("c", position=120, receiving=True)
    decision = ask(dead(), replica("b", position=130), late)
    assert (decision.action, decision.writable, decision.soon) == (HoldWrites(), None, True)
    caught_up = replace(late, position=140, receiving=False)
    again = ask(dead(), replica("b", position=130), caught_up, memory=decision.memory, now_s=1000.1)
    assert again.action == Promote("c", frozenset({"b"}))
    hangs = ask(dead(), replica("b", position=130), late, memory=decision.memory, now_s=1001.0)
    assert hangs.action == Promote("b", frozenset({"c"})), "one that hangs is not waited for without end"


def test_nobody_is_promoted_before_the_old_primary_is_fenced() -> None:
    decision = ask(dead(fenced=False), replica("b"), replica("c"))
    assert (decision.action, decision.writable) == (Fence("a"), None)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"reachable": False, "trouble": "is suspended (SIGSTOP)"}, "is suspended"),
        ({"write_failure": "cannot write: No space left on device"}, "No space left"),
        ({"reachable": False, "trouble": "does not answer within 200 ms"}, "does not answer"),
    ],
)
def test_failed_probes_count_only_in_a_row(how: dict[str, object], told: str) -> None:
    sick = primary(**how)
    memory = WELL
    for _ in range(2):
        decision = ask(sick, replica("b"), replica("c"), memory=memory)
        assert (decision.action, decision.writable) == (Nothing(), "a")
        memory = decision.memory
    recovered = ask(primary(), replica("b"), replica("c"), memory=memory)
    assert recovered.memory.failures["a"] == 0
    decision = ask(sick, replica("b"), replica("c"), memory=memory)
    assert decision.action == Fence("a")
    assert told in decision.reason


def test_a_round_that_nobody_answered_says_nothing_about_the_primary() -> None:
    memory = WELL
    for _ in range(20):
        memory = ask(primary(reachable=False), replica("b", reachable=False), replica("c", reachable=False)).memory
    assert memory.failures["a"] == 0


def test_a_round_that_came_too_late_counts_for_nobody() -> None:
    memory = replace(WELL, failures={"a": 2})
    decision = ask(primary(reachable=None), replica("b"), replica("c"), memory=memory)
    assert (decision.action, decision.memory.failures["a"]) == (Nothing(), 2)


def test_a_replica_that_was_waited_for_must_be_seen() -> None:
    decision = ask(dead(), replica("b"), replica("c", reachable=False, trouble="does not run"))
    assert decision.action == Restart("a")
    assert "c may have acknowledged commits that b lacks" in decision.reason


def test_who_is_not_in_the_guard_need_not_be_seen() -> None:
    memory = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"}))
    decision = ask(dead(), replica("b"), replica("c", reachable=False), memory=memory)
    assert decision.action == Promote("b", frozenset())


def test_without_a_guard_the_primary_itself_is_what_has_everything() -> None:
    decision = ask(dead(), replica("b"), replica("c"), memory=replace(WELL, told=frozenset(), guard=None))
    assert decision.action == Restart("a")
    assert "none had been waited for" in decision.reason


def test_asynchronous_groups_promote_and_say_what_that_costs() -> None:
    decision = ask(
        dead(), replica("b"), replica("c", reachable=False), memory=replace(WELL, guard=None), rules=ASYNCHRONOUS
    )
    assert decision.action == Promote("b", frozenset())
    assert "commits that it lacks are lost" in decision.reason


@pytest.mark.parametrize(
    "unfit", [{"timeline": 0}, {"disk_full": True}, {"busy": "copying"}, {"in_recovery": False}, {"settled": False}]
)
def test_a_replica_that_is_unfit_does_not_take_over(unfit: dict[str, object]) -> None:
    memory = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"}))
    decision = ask(dead(), replica("b", **unfit), memory=memory)
    assert decision.action == Restart("a")


def test_a_wedged_primary_without_a_successor_is_not_touched() -> None:
    memory = replace(WELL, failures={"a": 9})
    wedged = primary(reachable=False, trouble="does not answer")
    decision = ask(wedged, replica("b"), replica("c", reachable=False), memory=memory)
    assert (decision.action, decision.writable) == (Keep("a"), "a")
    alone = ask(wedged, memory=memory)
    assert (alone.action, alone.writable) == (Keep("a"), "a"), "it may only be slow"


def test_nobody_is_promoted_while_the_primary_is_being_started() -> None:
    decision = ask(replace(dead(), busy="starting"), replica("b"), replica("c"))
    assert (decision.action, decision.writable) == (HoldWrites(), None)


def test_restarts_that_do_not_help_come_less_and_less_often() -> None:
    memory, now_s, starts = replace(WELL, guard=None), 1000.0, []
    for _ in range(200):
        decision = ask(dead(), memory=memory, now_s=now_s)
        if isinstance(decision.action, Restart):
            starts.append(now_s)
        memory, now_s = decision.memory, now_s + 1
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2
    assert pauses[-1] == 30


def test_a_promotion_that_was_decided_is_carried_through() -> None:
    memory = Memory("b", timeline=1, promoting=True, told=frozenset({"c"}))
    assert ask(dead(), replica("b"), replica("c"), memory=memory).action == Promote("b", frozenset({"c"}))
    gone = replica("b", process="exited", reachable=False, trouble="does not run")
    assert ask(dead(), gone, replica("c", position=900), memory=memory).action == Restart("b")
    done = ask(dead(), primary("b", timeline=2), replica("c"), memory=memory)
    assert (done.action, done.writable, done.memory.promoting, done.memory.timeline) == (Nothing(), "b", False, 2)


def test_an_old_primary_is_never_used_again_before_it_is_rewound() -> None:
    memory = Memory("b", timeline=2, told=frozenset({"c"}), guard=frozenset({"c"}), mark=1)
    streams = (Stream("c", True, True, 100),)
    new = primary("b", timeline=2, streams=streams)
    decision = ask(primary("a", timeline=1, position=999), new, replica("c", upstream="b", timeline=2), memory=memory)
    assert (decision.action, decision.writable) == (Rejoin("a", "rewind"), "b")


def test_a_primary_that_fell_back_to_an_older_timeline_is_not_written_to() -> None:
    memory = replace(WELL, timeline=3)
    decision = ask(primary(timeline=1), replica("b", timeline=3), replica("c", timeline=3), memory=memory)
    assert (decision.action, decision.writable) == (Fence("a"), None)


def test_a_full_disk_gives_the_role_away_only_to_who_has_room() -> None:
    full = primary(disk_full=True)
    assert ask(full, replica("b"), replica("c")).action == Fence("a")
    decision = ask(full, replica("b", disk_full=True), replica("c", disk_full=True))
    assert (decision.action, decision.writable) == (Nothing(), "a")


# Whom commits wait for


def test_commits_wait_for_a_replica_as_soon_as_it_keeps_up() -> None:
    streams = (Stream("b", True, False, 100), Stream("c", False, False, 50))
    decision = ask(primary(streams=streams), replica("b"), replica("c"), memory=Memory("a", timeline=1))
    assert decision.action == Synchronous(frozenset({"b"}))
    assert decision.memory.guard is None


def test_the_last_replica_to_go_is_said_to_be_missed() -> None:
    decision = ask(primary(streams=()), dead("b"), dead("c"))
    assert decision.action == Synchronous(frozenset())
    assert "the primary's disk alone has them" in decision.reason
    assert decision.memory.guard is None


@pytest.mark.parametrize("how", [{"behind_ms": 3_001}, {"streaming": False}])
def test_a_replica_that_does_not_keep_up_is_not_waited_for(how: dict[str, object]) -> None:
    streams = (Stream("b", True, True, 100), replace(Stream("c", True, True, 10), **how))  # type: ignore[arg-type]
    memory = WELL
    if "streaming" in how:
        decision = ask(primary(streams=streams), replica("b"), replica("c"))
        assert decision.action == Nothing(), "it may have lost its connection for a moment"
        memory = decision.memory
    decision = ask(primary(streams=streams), replica("b"), replica("c"), memory=memory, now_s=1001.0)
    assert decision.action == Synchronous(frozenset({"b"}))
    assert decision.memory.guard == BOTH, "what c alone confirmed is not on b yet"


def test_the_guard_moves_when_the_others_have_everything_from_before() -> None:
    left = frozenset({"b"})
    memory = replace(WELL, told=left, guard=BOTH, mark=None)

    def at(flushed: int, waited_for: bool, other: bool = False) -> Memory:
        streams = (Stream("b", True, waited_for, flushed), Stream("c", False, other, 100))
        return ask(primary(position=200, streams=streams), replica("b"), replica("c"), memory=memory).memory

    assert at(150, waited_for=False).mark is None, "the order has not arrived"
    assert at(150, waited_for=True, other=True).mark is None, "c can still confirm commits alone"
    memory = at(150, waited_for=True)
    assert (memory.mark, memory.guard) == (200, BOTH)
    assert at(199, waited_for=True).guard == BOTH
    assert at(200, waited_for=True).guard == left


def test_an_order_that_may_not_have_arrived_is_given_again() -> None:
    decision = ask(primary(), replica("b"), replica("c"), memory=replace(WELL, told=UNKNOWN))
    assert decision.action == Synchronous(BOTH)
    assert "?" not in decision.reason


# Replicas


def test_replicas_of_another_node_are_pointed_to_the_primary() -> None:
    streams = (Stream("b", True, True, 100),)
    memory = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"}))
    decision = ask(primary(streams=streams), replica("b"), replica("c", upstream="b"), memory=memory)
    assert decision.action == Repoint(frozenset({"c"}), "a")


def test_a_replica_that_does_not_run_is_brought_back_and_one_at_work_is_left_alone() -> None:
    memory = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"}))
    streams = (Stream("b", True, True, 100),)
    assert ask(primary(streams=streams), replica("b"), dead("c"), memory=memory).action == Rejoin("c", "start")
    busy = replace(dead("c"), busy="joining")
    assert ask(primary(streams=streams), replica("b"), busy, memory=memory).action == Nothing()


def test_a_replica_that_does_not_start_is_rewound_then_copied_once() -> None:
    memory, now_s, seen = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"})), 1000.0, []
    streams = (Stream("b", True, True, 100),)
    for _ in range(200):
        decision = ask(primary(streams=streams), replica("b"), dead("c"), memory=memory, now_s=now_s)
        if isinstance(decision.action, Rejoin):
            seen.append(decision.action.how)
        memory, now_s = decision.memory, now_s + 1
    assert seen[:4] == ["start", "rewind", "copy", "start"]
    assert seen.count("copy") == 1


def test_a_replica_that_finds_no_place_is_rewound_and_then_copied() -> None:
    memory, now_s, seen = replace(WELL, told=frozenset({"b"}), guard=frozenset({"b"})), 1000.0, []
    streams = (Stream("b", True, True, 100),)
    for _ in range(30):
        decision = ask(primary(streams=streams), replica("b"), replica("c"), memory=memory, now_s=now_s)
        if decision.action != Nothing():
            seen.append(decision.action)
        memory, now_s = decision.memory, now_s + 1
    assert seen[:2] == [Rejoin("c", "rewind"), Rejoin("c", "copy")]


# Nodes of others


def test_others_promote_and_are_followed() -> None:
    memory = replace(WELL, guard=None, told=frozenset())
    gone = primary(process="unknown", reachable=False)
    for _ in range(3):
        decision = ask(gone, replica("b"), replica("c"), memory=memory, rules=FOREIGN)
        memory = decision.memory
    assert (decision.action, decision.writable) == (HoldWrites(), None)
    assert "failover = false" in decision.reason
    decision = ask(gone, primary("b", timeline=2), replica("c"), memory=memory, rules=FOREIGN)
    assert (decision.action, decision.writable) == (Adopt("b"), "b")
    assert decision.memory.timeline == 2


def test_a_later_primary_ends_a_promotion_that_hangs() -> None:
    memory = Memory("b", timeline=1, promoting=True)
    gone = replica("b", process="unknown", reachable=False)
    old = primary("a", process="unknown", timeline=1)
    rules = replace(FOREIGN, failover=True)
    assert ask(old, gone, replica("c"), memory=memory, rules=rules).action == HoldWrites(), "not the old one again"
    decision = ask(old, gone, primary("c", process="unknown", timeline=2), memory=memory, rules=rules)
    assert (decision.action, decision.writable, decision.memory.promoting) == (Adopt("c"), "c", False)


def test_a_second_primary_on_the_same_timeline_does_not_take_over() -> None:
    memory = replace(WELL, guard=None, told=frozenset())
    decision = ask(primary(), primary("b"), replica("c"), memory=memory, rules=FOREIGN)
    assert (decision.action, decision.writable) == (Nothing(), "a")


def test_foreign_nodes_are_never_reconfigured_without_leave() -> None:
    memory = replace(WELL, guard=None, told=frozenset())
    strays = [replica("b", upstream=None), replica("c", upstream="b", reachable=False)]
    for _ in range(20):
        decision = ask(primary(streams=()), *strays, memory=memory, rules=FOREIGN)
        assert decision.action == Nothing()
        memory = decision.memory
