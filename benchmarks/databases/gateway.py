"""The data plane by itself, with the planner that it needs: `python -m benchmarks.databases.gateway SNAPSHOT`.

Ends with SIGTERM. Nothing of the supervisor runs in it, and no PostgreSQL. Catalogues are read as the monitor's role.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from trimaran._core import DataPlane
from trimaran.databases.planning import Planning

from benchmarks.databases.catalogues import connector


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    snapshot = Path(sys.argv[1]).read_text()
    plane = DataPlane(snapshot)
    planning = Planning(plane, connector(snapshot))
    planning.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    planning.stop()
    plane.stop(0)


if __name__ == "__main__":
    main()
