"""`trimaran init`: look at a project and write a small trimaran.toml."""

from __future__ import annotations

import argparse
import ast
import re
from dataclasses import dataclass
from pathlib import Path

from trimaran.config.load import FILE_NAME
from trimaran.errors import TrimaranError

from .arguments import Commands

_APP_CLASSES = {
    "FastAPI": "FastAPI",
    "Flask": "Flask",
    "Starlette": "Starlette",
    "Quart": "Quart",
    "Litestar": "Litestar",
}
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "tests", "test"}
_FILES_MAX = 2_000

_TEMPLATE = """# Written by `trimaran init`: {what}.
# Every setting: `trimaran settings`.
app = "{app}"

[servers]
count = "2..4"        # the scaler moves inside this range; a plain number switches it off
# threads = 4         # of a WSGI server
# [servers.health]
# path = "/healthz"   # checked every two seconds

[gateway]
bind = ["127.0.0.1:8000"]
"""


@dataclass(frozen=True, slots=True)
class Found:
    app: str
    what: str


def register(commands: Commands) -> None:
    parser = commands.add_parser("init", help="look at the project here and write trimaran.toml")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    target = Path(FILE_NAME)
    if target.exists() and not options.force:
        raise TrimaranError(f"{FILE_NAME} exists already; --force replaces it")
    found = find_app(Path.cwd())
    if found is None:
        raise TrimaranError(
            "found no Django, FastAPI, Flask or Starlette app here; name yours: trimaran run module:attribute"
        )
    target.write_text(_TEMPLATE.format(app=found.app, what=found.what))
    print(f"found {found.what}: {found.app}\nwrote {FILE_NAME}; next: trimaran run")
    return 0


def find_app(directory: Path) -> Found | None:
    """The project's app, found by reading, never by importing."""
    return _django(directory) or _instance(directory)


def _django(directory: Path) -> Found | None:
    manage = directory / "manage.py"
    if not manage.is_file():
        return None
    match = re.search(r"""["']DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""", manage.read_text(errors="replace"))
    package = match[1].split(".")[0] if match else None
    candidates = [directory / package] if package else [path.parent for path in sorted(directory.glob("*/wsgi.py"))]
    for candidate in candidates:
        for kind in ("wsgi", "asgi"):
            if (candidate / f"{kind}.py").is_file():
                return Found(f"{candidate.name}.{kind}:application", f"a Django project ({kind.upper()})")
    return None


def _instance(directory: Path) -> Found | None:
    files = [path for path in directory.rglob("*.py") if not _is_skipped(path.relative_to(directory))][:_FILES_MAX]
    # The shallowest file wins, and main.py, app.py before others.
    for path in sorted(files, key=lambda p: (len(p.parts), p.stem not in ("main", "app", "wsgi", "asgi"), str(p))):
        try:
            tree = ast.parse(path.read_text(errors="replace"))
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and isinstance(node.targets[0], ast.Name)
            ):
                called = node.value.func
                name = (
                    called.attr
                    if isinstance(called, ast.Attribute)
                    else called.id
                    if isinstance(called, ast.Name)
                    else ""
                )
                if name in _APP_CLASSES:
                    module = ".".join(path.relative_to(directory).with_suffix("").parts)
                    return Found(
                        f"{module.removesuffix('.__init__')}:{node.targets[0].id}", f"a {_APP_CLASSES[name]} app"
                    )
    return None


def _is_skipped(path: Path) -> bool:
    return any(part in _SKIPPED or part.startswith(".") or part in ("venv", "env") for part in path.parts)
