"""Apps that cannot be served: one useful line, all details, exit code 3. And the ways to name an app."""

from __future__ import annotations

from pathlib import Path

import pytest

from .running import Running, running


def refused(app: str, **options: object) -> tuple[str, str]:
    with running(app, **options) as server:
        assert server.report["ok"] is False
        assert server.process.wait(20) == 3
        assert not server.address.exists()
        error: str = server.report["error"]
        details: str = server.report["traceback"]
        assert "\n" not in error
        assert server.log() == "", "it is told once: on the pipe"
        return error, details


def write(directory: Path, **modules: str) -> Path:
    for name, text in modules.items():
        path = directory / Path(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_module_that_does_not_exist(tmp_path: Path) -> None:
    error, _ = refused("mysite.wsgi:application", directory=tmp_path)
    assert error == f"no module named mysite in {tmp_path} or the installed packages: is the app's directory right?"


def test_submodule_that_does_not_exist(tmp_path: Path) -> None:
    error, _ = refused("mysite.wsgi", directory=write(tmp_path, mysite____init__=""))
    assert error.startswith("no module named mysite.wsgi in ")


def test_import_of_something_not_installed(tmp_path: Path) -> None:
    write(tmp_path, main="import views\n", views="\n\nimport not_installed_here\n")
    error, details = refused("main:app", directory=tmp_path)
    assert error.startswith(
        "importing main failed: ModuleNotFoundError: No module named 'not_installed_here' (views.py:3);"
        " is not_installed_here installed for "
    )
    assert "import views" in details


def test_error_while_importing(tmp_path: Path) -> None:
    error, details = refused("main:app", directory=write(tmp_path, main="import json\njson.loads('')\n"))
    assert error.startswith("importing main failed: JSONDecodeError: ")
    assert error.endswith(" (main.py:2)")
    assert "Traceback" in details


def test_syntax_error(tmp_path: Path) -> None:
    write(tmp_path, main="import views\n", views="def (:\n")
    error, _ = refused("main:app", directory=tmp_path)
    assert error == "importing main failed: SyntaxError: invalid syntax (views.py, line 1) (main.py:1)"


def test_exit_while_importing(tmp_path: Path) -> None:
    error, _ = refused("main:app", directory=write(tmp_path, main="import sys\nsys.exit(9)\n"))
    assert error == "importing main called sys.exit(9) (main.py:2)"


def test_attribute_that_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, main="def aplication(environ, start_response): ...\n")
    assert refused("main:application", directory=tmp_path)[0] == "main has no attribute application; it has aplication"
    error, _ = refused("main", directory=tmp_path)
    assert error == "module main has no attribute application or app; it has aplication"


def test_factory_that_raises(tmp_path: Path) -> None:
    write(tmp_path, main="def create_app():\n    raise KeyError('SECRET')\n")
    error, _ = refused("main:create_app()", directory=tmp_path)
    assert error == "main:create_app() raised KeyError: 'SECRET' (main.py:2)"


def test_name_that_is_a_file() -> None:
    error, _ = refused("mysite/wsgi.py:application")
    assert error.endswith("for example mysite.wsgi:application; did you mean mysite.wsgi:application?")


def test_something_that_is_no_app(tmp_path: Path) -> None:
    write(tmp_path, main="app = {}\ndef other(a): ...\n")
    error, _ = refused("main:app", directory=tmp_path)
    assert error == "the app is an instance of builtins.dict, which cannot be called"
    assert "set interface to asgi or wsgi" in refused("main:other", directory=tmp_path)[0]


def test_unknown_engine() -> None:
    error, _ = refused("wsgi_app", engine="unicorn")
    assert error == "unknown engine unicorn: expected one of auto, threads, granian for wsgi apps"


def test_directory_that_does_not_exist(tmp_path: Path) -> None:
    error, _ = refused("main", directory=tmp_path / "nowhere")
    assert error == f"the app's directory {tmp_path / 'nowhere'} cannot be entered: No such file or directory"


def test_package_that_is_missing() -> None:
    """The engine's packages are looked for where the app's are, so that hiding one is enough to see the message."""
    error, _ = refused("hidden_package:app")
    assert error == (
        "engine uvicorn for asgi apps needs httptools, not installed here:"
        " run pip install httptools, or set engine to granian"
    )


def serves(app: str, directory: Path, **options: object) -> Running:
    with running(app, directory=directory, **options) as server:
        assert server.report["ok"], server.report
        assert server.get("/").body == b"served"
        return server


WSGI = """
def {name}(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


@pytest.mark.parametrize("name", ["application", "app"])
def test_module_alone(tmp_path: Path, name: str) -> None:
    assert serves("main", write(tmp_path, main=WSGI.format(name=name))).report["interface"] == "wsgi"


def test_factory(tmp_path: Path) -> None:
    serves("pkg.main:make()", write(tmp_path, pkg__main=WSGI.format(name="app") + "\ndef make(): return app\n"))


def test_nested_attribute(tmp_path: Path) -> None:
    write(tmp_path, main=WSGI.format(name="app") + "\nclass Site: pass\nsite = Site()\nsite.app = app\n")
    serves("main:site.app", tmp_path)


def test_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, main=WSGI.format(name="app"))
    with running("main", directory=tmp_path) as first:
        first.process.kill()
        first.process.wait()
        assert first.address.exists()
        second = Running.start("main", first.address.parent, directory=tmp_path)
        try:
            assert second.get("/").body == b"served"
        finally:
            second.process.kill()
            second.process.wait()


def test_module_named_like_one_of_the_standard_library(tmp_path: Path) -> None:
    """The app's directory comes onto the import path only after the launcher's own imports."""
    serves("main", write(tmp_path, main=WSGI.format(name="app"), argparse="raise RuntimeError"))
