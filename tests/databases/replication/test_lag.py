"""How far behind a replica is, from positions that the primary had."""

from __future__ import annotations

from trimaran.databases.replication.lag import Lag


def _history() -> Lag:
    lag = Lag()
    for now_s, position in ((1.0, 100), (2.0, 100), (3.0, 200), (4.0, 300)):
        lag.note(now_s, position)
    return lag


def test_who_has_everything_is_not_behind_however_long_nothing_is_written() -> None:
    lag = _history()
    assert (lag.behind_ms(1_000.0, 300), lag.behind_bytes(300)) == (0, 0)


def test_a_replica_is_behind_since_there_was_something_that_it_lacks() -> None:
    lag = _history()
    assert (lag.behind_ms(4.5, 299), lag.behind_bytes(299)) == (500, 1)
    assert (lag.behind_ms(4.5, 100), lag.behind_bytes(100)) == (1_500, 200)
    assert lag.behind_ms(4.5, 0) == 3_500


def test_without_a_primary_nothing_is_known() -> None:
    lag = _history()
    lag.forget()
    assert (lag.behind_ms(5.0, 0), lag.behind_bytes(0)) == (0, 0)


def test_the_history_is_bounded() -> None:
    lag = Lag()
    for at in range(20_000):
        lag.note(float(at), at)
    assert lag.behind_ms(20_000.0, 0) <= 4_000_000
    assert lag.behind_ms(20_000.0, 19_998) == 1_000
