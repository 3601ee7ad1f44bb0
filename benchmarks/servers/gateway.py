"""The data plane by itself, as a process to be measured: `python -m benchmarks.servers.gateway SNAPSHOT`.

Prints its address when it listens, and ends with SIGTERM. Nothing of the supervisor runs in it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from trimaran._core import DataPlane


def main() -> None:
    """Serve until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    plane = DataPlane(Path(sys.argv[1]).read_text())
    print(plane.addresses()[-1], flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    plane.stop(0)


if __name__ == "__main__":
    main()
