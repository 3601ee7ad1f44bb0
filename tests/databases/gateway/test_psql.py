"""Scripts for psql, directly and through the gateway."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from trimaran.databases.postgres import find

from tests.support.gateways import Gateway

SCRIPT = r"""
\set ON_ERROR_STOP off
\pset format unaligned
CREATE TABLE script (id int PRIMARY KEY, text text);
\copy script FROM 'rows.csv' CSV
SELECT count(*), min(text) FROM script;
\copy (SELECT * FROM script ORDER BY id LIMIT 3) TO 'out.csv' CSV HEADER
\d script
\dt script
INSERT INTO script VALUES (1, 'again');
\errverbose
\echo :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE
BEGIN;
SAVEPOINT a;
SELECT 1 / 0;
ROLLBACK TO a;
\echo still
SELECT 2 \; SELECT 3;
COMMIT;
SELECT $1::int + $2::int \bind 1 2 \g
SELECT $1 \parse mine
\bind_named mine 'named' \g
\close_prepared mine
SELECT 'one' AS a, 2 AS b \gset mine_
\echo :mine_a :mine_b
SELECT format('SELECT %s', n) FROM generate_series(1, 2) n \gexec
SELECT id FROM script ORDER BY id LIMIT 1 \gdesc
\set FETCH_COUNT 100
SELECT sum(length(text)) FROM script;
SELECT id FROM script WHERE id > 990;
\unset FETCH_COUNT
SELECT 5 \watch i=0.05 c=2
\encoding LATIN1
SELECT 'é' AS e, octet_length('é');
\encoding UTF8
SET work_mem = '9MB';
SHOW work_mem;
\startpipeline
SELECT 1 \bind \sendpipeline
SELECT 2 \bind \sendpipeline
\syncpipeline
\endpipeline
DO $$ BEGIN RAISE WARNING 'careful'; END $$;
LISTEN channel;
NOTIFY channel, 'hello';
DROP TABLE script;
"""


@pytest.fixture(scope="module")
def psql() -> Path:
    return find.find(None, os.environ).bin / "psql"


def run(psql: Path, dsn: str, script: bytes, directory: Path) -> tuple[int, str]:
    (directory / "rows.csv").write_text("".join(f"{n},text {n}\n" for n in range(1000)))
    done = subprocess.run(
        [psql, "-X", "-f", "-", dsn],
        input=script,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    said = done.stdout.decode("latin1")
    # What differs from run to run: process numbers and times.
    return done.returncode, re.sub(r"PID \d+|\w{3} \w{3} +\d+ [\d:]+ \d{4}", "X", said)


def test_a_script_says_the_same(gateway: Gateway, psql: Path, tmp_path: Path) -> None:
    script = SCRIPT.encode("latin1")
    directly = run(psql, gateway.direct, script, tmp_path)
    copied = (tmp_path / "out.csv").read_text()
    assert run(psql, gateway.dsn, script, tmp_path) == directly
    assert (tmp_path / "out.csv").read_text() == copied == "id,text\n0,text 0\n1,text 1\n2,text 2\n"
    assert "named" in directly[1]
    assert "careful" in directly[1]
    assert "hello" in directly[1]


def test_the_exit_code_of_a_script_that_fails(gateway: Gateway, psql: Path, tmp_path: Path) -> None:
    for dsn in (gateway.direct, gateway.dsn):
        assert run(psql, dsn, b"\\set ON_ERROR_STOP on\nSELECT 1 / 0;\nSELECT 1;\n", tmp_path)[0] == 3
