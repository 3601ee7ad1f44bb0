"""Every command in a directory of its own: what it says, what it writes, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trimaran.config.load import load

DJANGO = {
    "manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")',
    "shop/__init__.py": "",
    "shop/wsgi.py": "application = None",
}
FASTAPI = {"src/main.py": "from fastapi import FastAPI\napi = FastAPI()\n"}
FLASK = {
    "app.py": "import flask\nsite = flask.Flask(__name__)\n",
    "tests/app.py": "import flask\nx = flask.Flask('x')\n",
}
HELLO = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hi']\n"


def _run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TRIMARAN_")}
    command = [sys.executable, "-m", "trimaran", *arguments]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, timeout=90)


def _write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "app"),
    [(DJANGO, "shop.wsgi:application"), (FASTAPI, "src.main:api"), (FLASK, "app:site")],
    ids=["django", "fastapi", "flask"],
)
def test_init_finds_the_app(tmp_path: Path, files: dict[str, str], app: str) -> None:
    _write(tmp_path, files)
    done = _run(tmp_path, "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert app in done.stdout
    assert load(tmp_path / "trimaran.toml", environ={}, flags={}).config.app == app


def test_init_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    _write(tmp_path, {**FLASK, "trimaran.toml": "app = 'mine:app'"})
    assert _run(tmp_path, "init").returncode == 1
    assert (tmp_path / "trimaran.toml").read_text() == "app = 'mine:app'"
    assert _run(tmp_path, "init", "--force").returncode == 0
    assert "app:site" in (tmp_path / "trimaran.toml").read_text()


def test_init_where_there_is_nothing(tmp_path: Path) -> None:
    done = _run(tmp_path, "init")
    assert done.returncode == 1
    assert "module:attribute" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_check(tmp_path: Path) -> None:
    _write(tmp_path, {"hello.py": HELLO, "trimaran.toml": 'app = "hello:app"\n[servers]\naddresses = ["10.0.0.1:80"]'})
    done = _run(tmp_path, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello:app is wsgi" in done.stdout
    assert "10.0.0.1:80" in done.stdout
    assert not (tmp_path / ".trimaran").exists()


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ('app = "hello:app"\n[servers]\nthreads = 0', 2, ["trimaran.toml", "servers.threads = 0", "from 1 to 512"]),
        ('app = "nowhere:app"', 3, ["nowhere"]),
        ('app = "broken:app"', 3, ["broken on purpose"]),
        ('app = "hello:nothing"', 3, ["nothing"]),
    ],
)
def test_what_cannot_run_says_why(tmp_path: Path, command: str, settings: str, code: int, words: list[str]) -> None:
    files = {"hello.py": HELLO, "broken.py": "raise RuntimeError('broken on purpose')", "trimaran.toml": settings}
    _write(tmp_path, files)
    arguments = (command, "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0") if command == "run" else (command,)
    done = _run(tmp_path, *arguments)
    assert done.returncode == code, done
    assert [word for word in words if word not in done.stderr + done.stdout] == []
    said = done.stderr + done.stdout
    assert said.count("Traceback") <= 1
    assert "importlib" not in said, "only the app's own frames are of interest"


def test_run_without_anything_says_what_to_do(tmp_path: Path) -> None:
    done = _run(tmp_path, "run")
    assert done.returncode != 0
    assert "trimaran init" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("status",), ("reload",), ("scale", "2"), ("drain", "app-1"), ("top",), ("db", "status")]
)
def test_nothing_runs_here(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = _run(tmp_path, *arguments)
    assert done.returncode == 6
    assert "trimaran run" in done.stderr


@pytest.mark.parametrize("arguments", [("scale",), ("scale", "many"), ("fly",), ("db",), ("run", "--colour", "red")])
def test_a_wrong_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = _run(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.parametrize(
    "command", ["run", "init", "check", "status", "top", "scale", "drain", "reload", "settings", "db"]
)
def test_help_of_every_command(tmp_path: Path, command: str) -> None:
    assert command in _run(tmp_path, "--help").stdout
    assert f"trimaran {command}" in _run(tmp_path, command, "--help").stdout


def test_settings_are_listed(tmp_path: Path) -> None:
    said = _run(tmp_path, "settings").stdout
    assert "servers.queue_timeout_ms" in said or "queue_timeout_ms" in said
