"""The data plane by itself, with the planner that it needs: `python -m benchmarks.databases.gateway SNAPSHOT`.

Ends with SIGTERM. Nothing of the supervisor runs in it, and no PostgreSQL.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from trimaran._core import DataPlane
from trimaran.databases.planning import Planning


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    plane = DataPlane(Path(sys.argv[1]).read_text())
    planning = Planning(plane)
    planning.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    planning.stop()
    plane.stop(0)


if __name__ == "__main__":
    main()
