"""How each exercise is built. Versions are in the lock files beside the sources; whatever is downloaded or built is kept in
target/compatibility. A toolchain or a registry that is missing is told by `Unavailable`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.compatibility.sources import KEPT

_SOURCES = Path(__file__).parent
_LONGEST_S = 600


class Unavailable(RuntimeError):
    """An exercise cannot be built here."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver, by the name that `make compat` takes, and what builds its exercise: it returns the command that runs it."""

    name: str
    build: Callable[[], list[str]]


def _run(
    command: list[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    failure: type[RuntimeError] = Unavailable,
) -> None:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise failure(f"{' '.join(command[:3])} took too long") from error
    if done.returncode:
        raise failure(f"{' '.join(command[:3])} failed: {done.stdout.strip()[-600:]}")


def _directory(name: str) -> Path:
    made = KEPT / "drivers" / name
    made.mkdir(parents=True, exist_ok=True)
    return made


def _go(driver: str) -> list[str]:
    kept = _directory("go")
    program = kept / "exercise"
    environment = {"GOMODCACHE": str(kept / "modules"), "GOFLAGS": "-mod=readonly -modcacherw", "GOTOOLCHAIN": "local"}
    _run(["go", "mod", "download"], _SOURCES / "go", environment)
    _run(["go", "build", "-o", str(program), "."], _SOURCES / "go", environment, failure=RuntimeError)
    return [str(program), driver]


def _java() -> list[str]:
    kept = _directory("java")
    jars, classes = kept / "jars", kept / "classes"
    sources = _SOURCES / "java"
    ready = kept / "pom.xml"
    if not ready.exists() or ready.read_text() != (sources / "pom.xml").read_text():
        shutil.rmtree(jars, ignore_errors=True)
        options = ["-q", "-B", f"-Dmaven.repo.local={kept / 'repository'}", f"-DoutputDirectory={jars}"]
        _run(["mvn", *options, "dependency:copy-dependencies"], sources)
        shutil.copy(sources / "pom.xml", ready)
    shutil.rmtree(classes, ignore_errors=True)
    path = f"{jars}/*"
    compiled = ["javac", "-d", str(classes), "-cp", path, *map(str, sorted(sources.glob("*.java")))]
    _run(compiled, sources, failure=RuntimeError)
    return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{classes}:{path}", "Exercise"]


def _node(program: str) -> list[str]:
    kept = _directory("node")
    sources = _SOURCES / "node"
    lock = kept / "package-lock.json"
    if not lock.exists() or lock.read_text() != (sources / "package-lock.json").read_text():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(sources / name, kept)
        try:
            _run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], kept)
        except Unavailable:
            lock.unlink()
            raise
    for source in sources.glob("*.js"):
        shutil.copy(source, kept)
    return ["node", str(kept / program)]


def _python(module: str) -> list[str]:
    kept = _directory("python")
    environment, requirements = kept / "environment", _SOURCES / "python" / "requirements.txt"
    ready = kept / "requirements.txt"
    if not ready.exists() or ready.read_text() != requirements.read_text():
        shutil.rmtree(environment, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(environment)], kept)
        _run([str(environment / "bin" / "pip"), "install", "--quiet", "--no-deps", "-r", str(requirements)], kept)
        shutil.copy(requirements, ready)
    return [str(environment / "bin" / "python"), str(_SOURCES / "python" / f"{module}.py")]


DRIVERS: Final[tuple[Driver, ...]] = (
    Driver("pgx", lambda: _go("pgx")),
    Driver("pq", lambda: _go("pq")),
    Driver("jdbc", _java),
    Driver("node-pg", lambda: _node("node_pg.js")),
    Driver("postgres-js", lambda: _node("postgres_js.js")),
    Driver("asyncpg", lambda: _python("exercise_asyncpg")),
    Driver("psycopg2", lambda: _python("exercise_psycopg2")),
    Driver("pg8000", lambda: _python("exercise_pg8000")),
)
"""All of them, in the order of the table."""
