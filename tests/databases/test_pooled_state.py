"""What a statement that fails, a session that is lost, or a cancelled one leaves behind with a connection that is shared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import pq
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq import abc as libpq

from tests.databases.failover.conftest import cluster
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("pooled"), replicas=0) as group:
        with group.connect() as connection:
            connection.execute("CREATE TABLE t (x int)")
        yield group


@pytest.fixture
def client(group: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with group.connect() as connection:
        connection.execute("TRUNCATE t")
        yield connection


def _end_servers_of_clients(group: Cluster) -> None:
    """Every connection that the gateway has for clients is ended by its server."""
    with group.superuser(group.primary.name) as direct:
        direct.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND application_name NOT LIKE 'trimaran%'"
        )


def test_a_transaction_that_was_lost_between_two_statements_does_not_commit_in_silence(
    group: Cluster, client: psycopg.Connection[Any]
) -> None:
    client.execute("BEGIN")
    client.execute("INSERT INTO t VALUES (1)")
    _end_servers_of_clients(group)
    with pytest.raises(psycopg.errors.SerializationFailure, match="its server went away"):
        client.execute("COMMIT")
    assert client.info.transaction_status == TransactionStatus.IDLE
    assert client.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_lost_transaction_fails_once_and_then_waits_for_its_rollback(
    group: Cluster, client: psycopg.Connection[Any]
) -> None:
    client.execute("BEGIN")
    client.execute("SET work_mem = '5MB'")
    _end_servers_of_clients(group)
    with pytest.raises(psycopg.errors.SerializationFailure):
        client.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.execute("INSERT INTO t VALUES (1)")
    client.execute("ROLLBACK")
    assert client.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert client.execute("SHOW work_mem").fetchone() != ("5MB",)


def test_a_lost_transaction_may_be_rolled_back_at_once(group: Cluster, client: psycopg.Connection[Any]) -> None:
    client.execute("BEGIN")
    client.execute("INSERT INTO t VALUES (1)")
    _end_servers_of_clients(group)
    client.execute("ROLLBACK")
    assert client.info.transaction_status == TransactionStatus.IDLE


def test_settings_of_a_lost_session_stay_its_own(group: Cluster, client: psycopg.Connection[Any]) -> None:
    client.execute("SET application_name = 'mine'")
    client.execute("BEGIN")
    _end_servers_of_clients(group)
    with pytest.raises(psycopg.errors.SerializationFailure):
        client.execute("SELECT 1")
    client.execute("ROLLBACK")
    with group.connect() as other:
        assert other.execute("SHOW application_name").fetchone() != ("mine",)
    assert client.execute("SHOW application_name").fetchone() == ("mine",)


def _results(connection: libpq.PGconn) -> list[tuple[int, bytes]]:
    """Up to and with the answer to the next Sync."""
    found = []
    while True:
        result = connection.get_result()
        if result is None:
            continue
        found.append((result.status, result.error_field(pq.DiagnosticField.SQLSTATE) or b""))
        if result.status == ExecStatus.PIPELINE_SYNC:
            return found


def test_a_part_of_a_batch_that_was_answered_is_not_committed_by_a_sync_elsewhere(group: Cluster) -> None:
    with group.connect() as client:
        raw = client.pgconn
        raw.enter_pipeline_mode()
        raw.send_query_params(b"INSERT INTO t VALUES (7)", [])
        raw.send_flush_request()
        while (inserted := raw.get_result()) is None:
            pass
        assert inserted.status == ExecStatus.COMMAND_OK
        assert raw.get_result() is None
        _end_servers_of_clients(group)
        raw.send_query_params(b"SELECT 1", [])
        raw.pipeline_sync()
        statuses = _results(raw)
        assert (ExecStatus.FATAL_ERROR, b"40001") in statuses, statuses
        raw.exit_pipeline_mode()
        assert client.info.transaction_status == TransactionStatus.IDLE
        assert client.execute("SELECT count(*) FROM t WHERE x = 7").fetchone() == (0,)


def test_nothing_runs_with_the_rights_of_the_login_when_the_role_is_gone(
    group: Cluster, client: psycopg.Connection[Any]
) -> None:
    with group.superuser(group.primary.name) as direct:
        direct.execute("CREATE ROLE passing")
        direct.execute(f"GRANT passing TO {client.info.user}")
        client.execute("SET ROLE passing")
        with group.connect() as other:
            # Takes the connection over, as itself.
            assert other.execute("SELECT current_user").fetchone() == (client.info.user,)
        direct.execute("DROP ROLE passing")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='role "passing" does not exist'):
        client.execute("INSERT INTO t VALUES (1)")
    client.execute("RESET ROLE")
    assert client.execute("SELECT current_user").fetchone() == (client.info.user,)
    with group.connect() as other:
        assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_lock_of_a_statement_that_failed_is_its_sessions_and_not_the_pools(group: Cluster) -> None:
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"
    with group.superuser(group.primary.name) as direct:
        with group.connect() as client:
            with pytest.raises(psycopg.errors.DivisionByZero):
                client.execute("SELECT pg_advisory_lock(4711); SELECT 1 / 0")
            # As in PostgreSQL: no rollback takes it back, and others wait for it.
            assert direct.execute(locks).fetchone() == (1,)
            with group.connect() as other:
                assert other.execute("SELECT pg_try_advisory_lock(4711)").fetchone() == (False,)
        eventually(lambda: direct.execute(locks).fetchone() == (0,), "the lock is gone")


def test_statements_forgotten_by_a_batch_that_failed_are_prepared_again(group: Cluster) -> None:
    with group.connect(prepare_threshold=0) as first, group.connect() as second:
        for _ in range(2):
            assert first.execute("SELECT 5 + %s::int", (1,)).fetchone() == (6,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            second.execute("DEALLOCATE ALL; SELECT 1 / 0")
        assert first.execute("SELECT 5 + %s::int", (1,)).fetchone() == (6,)


def test_a_copy_that_fails_early_leaves_nothing_on_the_connection(group: Cluster) -> None:
    for _ in range(20):
        with group.connect() as client, suppress(psycopg.Error):
            with client.cursor().copy("COPY t FROM STDIN") as copy:
                for _ in range(100):
                    copy.write(b"not a number\n" * 5000)
            raise AssertionError("the COPY did not fail")
        with group.connect() as other:
            assert other.execute("SELECT 42").fetchone() == (42,)


def test_a_cancel_request_meets_nobody_else(group: Cluster) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        with group.connect() as bystander:
            while not stop.is_set():
                try:
                    bystander.execute("SELECT pg_sleep(0.001)")
                except psycopg.Error as error:
                    failures.append(error)

    others = [threading.Thread(target=work) for _ in range(2)]
    for other in others:
        other.start()
    with group.connect() as client:
        for _ in range(100):
            # The request races with the end of the statement.
            client.pgconn.send_query(b"SELECT 1")
            client.cancel_safe(timeout=10)
            while client.pgconn.get_result() is not None:
                pass
    stop.set()
    for other in others:
        other.join()
    assert not failures
