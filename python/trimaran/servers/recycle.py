"""Whether a server has had its time: pure."""

from __future__ import annotations

from trimaran.config.model import Pool


def reason_to_recycle(pool: Pool, memory_bytes: int | None, uptime_s: float) -> str | None:
    """Why a server should be replaced by a new one, or None."""
    if pool.memory_max_mib and memory_bytes is not None and memory_bytes > pool.memory_max_mib * 2**20:
        return f"uses {memory_bytes / 2**20:.0f} MiB, more than memory_max_mib = {pool.memory_max_mib}"
    if pool.lifetime_max_s and uptime_s > pool.lifetime_max_s:
        return f"is {uptime_s:.0f} s old, more than lifetime_max_s = {pool.lifetime_max_s}"
    return None
