"""Where other projects' tests come from. They are kept in target/compatibility, and fetched when they are not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

KEPT = Path(__file__).parents[2] / "target" / "compatibility"

PSYCOPG = "3.3.4"
"""The tag of psycopg whose tests run, and with which they run: in an environment of their own, built from the same source."""

_PSYCOPG_NEEDS = (
    "anyio>=4",
    "numpy",
    "pproxy",
    "pytest>=9",
    "pytest-timeout",
    "shapely",
    "typing-extensions",
    "tzdata",
)


def django() -> Path:
    """The tests in the source distribution of the Django that is installed. Raises CalledProcessError without a network."""
    name = f"django-{version('Django')}"
    target = KEPT / name
    if not target.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--no-deps", "--no-binary", "Django", "--dest", str(KEPT)]
        requirement = f"Django=={version('Django')}"
        subprocess.run([sys.executable, "-m", "pip", "download", *options, requirement], check=True)
        [archive] = KEPT.glob(f"{name}*.tar.gz")
        with tarfile.open(archive) as opened:
            opened.extractall(KEPT, filter="data")
    return target / "tests"


def psycopg(repository: str = "https://github.com/psycopg/psycopg") -> Path:
    """A checkout of psycopg at `PSYCOPG`: its tests are in no package. Raises CalledProcessError without a network."""
    target = KEPT / f"psycopg-{PSYCOPG}"
    if not target.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--depth=1", f"--branch={PSYCOPG}", "-c", "advice.detachedHead=false"]
        subprocess.run(["git", "clone", *options, repository, str(target)], check=True)
    return target


def psycopg_python(checkout: Path) -> Path:
    """The interpreter of an environment with psycopg and its pool from `checkout`, and what their tests need."""
    environment = KEPT / f"psycopg-{PSYCOPG}-environment"
    python = environment / "bin" / "python"
    if not (environment / "ready").exists():
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, f"psycopg-binary=={PSYCOPG}", *_PSYCOPG_NEEDS], check=True)
        packages = [str(checkout / "psycopg"), str(checkout / "psycopg_pool")]
        subprocess.run([*install, "--no-deps", *packages], check=True)
        (environment / "ready").touch()
    return python
