"""The Rust core. Python sends one immutable snapshot down, and reads facts and events up."""

from typing import Self, final

__all__ = ["BindError", "DataPlane", "SnapshotError"]

@final
class DataPlane:
    """Listeners, queues, balancing, health checks and forwarding, on threads of their own without the GIL.

    Every method is safe to call from any thread and returns at once, except where it says otherwise.
    """

    def __new__(cls, snapshot: str, accept: bool = True) -> Self:
        """Bind the snapshot's listeners and start the threads. Databases are open at once; HTTP too, unless `accept` is
        false, which leaves it to `accept()`.

        `snapshot` is JSON as written by `trimaran.snapshot`; unknown keys are refused.
        Raises SnapshotError (bad snapshot) or BindError (an address cannot be bound; nothing was started).
        """

    def accept(self) -> None:
        """Open the HTTP listeners; connections were refused until now. A second call does nothing. Raises BindError."""

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

    def plans(self, database: str) -> str | None:
        """The statements that a database's gateway knows, as JSON; the shape is a list of `trimaran.facts.PlanFacts`.

        The most executed come first, at most 1,000. None when there is no such database.
        """

    def plans_wanted(self, timeout_ms: int) -> list[tuple[int, str, str, str, int]]:
        """Statements without a plan: id, text, group, database, and the version of the database's catalogue that the plan
        has to be for; waits up to `timeout_ms` (without the GIL) for the first."""

    def databases_in_use(self) -> list[tuple[str, str, int]]:
        """Group, database and version of its catalogue, of each database whose statements were looked up since the last
        call."""

    def catalogue_changed(self, group: str, database: str) -> None:
        """The catalogue of a database was changed past the gateway: its statements are planned again when they are met."""

    def planned(self, id: int, plan: str) -> None:  # noqa: A002 - the name is the seam's
        """Give the plan of a statement, as `trimaran.databases.planner.Plan.to_json` writes it. Raises SnapshotError when it
        is malformed; the statement then goes to the primary."""

    def stop_planning(self) -> None:
        """End the waiting of `plans_wanted`, for good: from now on it answers at once."""

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
