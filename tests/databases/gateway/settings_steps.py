"""Steps of sessions, and what many of them ask.

A step is (session, what it says). The session `admin` is a superuser elsewhere, who does what he does once."""

from __future__ import annotations

from tests.databases.gateway.twins import Step

READER, WRITER = "settings_reader", "settings_writer"
"""Two roles that both logins may take on."""

WHO = "SELECT current_user, session_user, current_setting('role')"
X = "SELECT current_setting('app.x', true)"
ISOLATION = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
MEMORY = "SHOW work_mem"

Case = list[tuple[str, Step]]


def a(*steps: Step) -> Case:
    """All by session A."""
    return [("A", step) for step in steps]


def between(*steps: Step, probe: str = WHO) -> Case:
    """A's steps, after each of which B looks whether anything of it has reached it."""
    return [item for step in steps for item in (("A", step), ("B", probe))]
