"""Fuzzes every property of the data plane, guided by coverage: `make fuzz`.

FUZZ_SECONDS (3600) is the time of the whole run, which all properties share alike; FUZZ_ONLY names those to take, when not
all. What was learned stays in target/fuzz/corpus, so that the next run goes on from there. A finding is left as a file, named
at the end; it belongs into tests/servers/gateway/corpus or seeds.toml.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target" / "fuzz"
TRIPLE = re.search(r"host: (\S+)", subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout)
LIST = (ROOT / "crates/dataplane/src/properties/mod.rs").read_text()
PROPERTIES = re.findall(r'^    \("(\w+)", \w+::hold\),$', LIST, re.MULTILINE)
# What `cargo fuzz` sets, less the sanitizers, which need a nightly compiler and would find nothing: there is no unsafe code.
COVERAGE = " ".join(
    ["-Cpasses=sancov-module"]
    + [
        f"-Cllvm-args=-sanitizer-coverage-{what}"
        for what in ("level=4", "inline-8bit-counters", "pc-table", "trace-compares")
    ]
)


def build() -> Path:
    assert TRIPLE is not None, "rustc does not tell its host"
    environ = {**os.environ, "RUSTFLAGS": COVERAGE, "CARGO_TARGET_DIR": str(TARGET)}
    # With a target named, build scripts are left without the instruments.
    command = ["cargo", "build", "--quiet", "--release", "--target", TRIPLE[1]]
    subprocess.run(command, cwd=ROOT / "crates" / "fuzz", env=environ, check=True)
    return TARGET / TRIPLE[1] / "release" / "fuzz"


def seeds(name: str, told: dict[str, list[str]]) -> Iterator[bytes]:
    yield from (text.encode("latin-1") for text in told.get(name, []))
    if name in ("requests", "chunks"):
        for file in sorted((ROOT / "tests/servers/gateway/corpus").glob("*.toml")):
            for case in tomllib.loads(file.read_text())["case"]:
                data = "".join(case["send"]).encode("latin-1")
                yield data if name == "requests" else data.partition(b"\r\n\r\n")[2]


def fuzz(program: Path, name: str, seconds: int, told: dict[str, list[str]]) -> tuple[str, list[Path]]:
    """Returns what there is to say, and files that hold findings."""
    corpus, found = TARGET / "corpus" / name, TARGET / "found" / name
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    for data in seeds(name, told):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = TARGET / "words"
    before = set(found.iterdir())
    print(f"{name}: begins, for {seconds} s, with {len(list(corpus.iterdir()))} inputs", flush=True)
    command = [program, corpus, f"-dict={words}", f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1"]
    log = TARGET / f"{name}.log"
    start = time.monotonic()
    with log.open("wb") as output:
        ended = subprocess.run(
            [*command, "-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={found}/"],
            env={**os.environ, "FUZZ_PROPERTY": name},
            stdout=output,
            stderr=output,
            check=False,
        )
    text = log.read_text(errors="replace")
    executions = re.search(r"number_of_executed_units: (\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    findings = sorted(set(found.iterdir()) - before)
    says = f"{name}: {int(executions[1]) if executions else 0:,} executions in {time.monotonic() - start:.0f} s"
    says += f", {covered[-1] if covered else 0} edges, {len(list(corpus.iterdir()))} inputs kept"
    if ended.returncode and not findings:
        raise SystemExit(f"{says}; it ended with {ended.returncode}, see {log}")
    return says, findings


def main() -> int:
    wanted = os.environ.get("FUZZ_ONLY", "").split() or PROPERTIES
    if unknown := set(wanted) - set(PROPERTIES):
        raise SystemExit(
            f"FUZZ_ONLY: no property is called {', '.join(sorted(unknown))}; there are {', '.join(PROPERTIES)}"
        )
    seconds, jobs = int(os.environ.get("FUZZ_SECONDS", "3600")), min(os.cpu_count() or 1, len(wanted))
    program = build()
    told = tomllib.loads((ROOT / "crates/fuzz/seeds.toml").read_text())
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) for word in told["words"])
    (TARGET / "words").write_text("".join(f'"{word}"\n' for word in escaped))
    # As many at a time as there are processors: so many rounds share the time.
    each = max(1, seconds // math.ceil(len(wanted) / jobs))
    findings = []
    with ThreadPoolExecutor(jobs) as pool:
        for ended in as_completed([pool.submit(fuzz, program, name, each, told) for name in wanted]):
            says, found = ended.result()
            print(says, flush=True)
            findings += found
    for path in findings:
        print(f"found: {path}: {path.read_bytes()!r}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
