"""The Rust core. Python sends one immutable snapshot down, and reads facts and events up."""

from typing import Self, final

__all__ = ["BindError", "DataPlane", "SnapshotError"]

@final
class DataPlane:
    """Listeners, queues, balancing, health checks and forwarding, on threads of their own without the GIL.

    Every method is safe to call from any thread and returns at once, except where it says otherwise.
    """

    def __new__(cls, snapshot: str) -> Self:
        """Bind the snapshot's listeners and start the threads.

        `snapshot` is JSON as written by `trimaran.snapshot`; unknown keys are refused.
        Raises SnapshotError (bad snapshot) or BindError (an address cannot be bound; nothing was started).
        """

    def apply(self, snapshot: str) -> None:
        """Replace the snapshot as a whole. Servers keep their counters by name. Raises SnapshotError; then nothing changed."""

    def addresses(self) -> list[str]:
        """Bound listener addresses in the snapshot's order, with real port numbers."""

    def facts(self) -> str:
        """Counters as JSON; the shape is `trimaran.facts.Facts`."""

    def events(self, wait_ms: int) -> list[str]:
        """Events since the last call, one JSON object each; waits up to `wait_ms` (without the GIL) for the first.

        Shapes: {"kind": "health", "pool", "server", "state", "reason"},
        {"kind": "queue", "pool", "length", "oldest_ms"} when a queue starts to form,
        {"kind": "retry_budget", "pool"} when retries were refused.
        """

    def stop_accepting(self) -> None:
        """Close the listeners; connections in progress go on, and keep-alive connections end with their next response."""

    def stop(self, grace_ms: int) -> bool:
        """Stop accepting, wait up to `grace_ms` (without the GIL) for requests in progress, end the threads.

        True when nothing had to be cut off.
        """

class SnapshotError(ValueError):
    """The snapshot is malformed; the message names the key."""

class BindError(OSError):
    """A listener cannot be bound; the message names the address and why."""
