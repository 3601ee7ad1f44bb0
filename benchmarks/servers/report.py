"""What a page of figures begins with: when, where, and what was compared."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.servers import contenders
from benchmarks.servers.contenders.process import program


def header(names: list[str]) -> list[str]:
    """Markdown: date, machine, versions, and which peers are missing."""
    cores = os.cpu_count() or 1
    lines = [f"{datetime.datetime.now(datetime.UTC).date()}, {processor()}, {cores} cores, Linux {platform.release()}"]
    lines.append(", ".join(version(contender) for contender in contenders.present(*names)))
    absent = [name for name in contenders.missing() if name in names or not names]
    if absent:
        lines.append(f"Not installed and left out: {', '.join(absent)}")
    return lines


def version(contender: contenders.Contender) -> str:
    """Name and version."""
    if contender.program is None:
        return f"{contender.name} {importlib.metadata.version('trimaran')}{_commit()}"
    command = [program(contender.program), *contender.version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    number = re.search(r"(\d+\.\d+\.\d+)", done.stdout + done.stderr)
    return f"{contender.name} {number[1] if number else '?'}"


def processor() -> str:
    """What /proc says it is."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return f" ({done.stdout.strip()})" if done.returncode == 0 else ""
