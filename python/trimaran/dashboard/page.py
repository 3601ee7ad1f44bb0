"""The status page: rendered here once, kept up to date by `static/live.js`, which draws the same tables from the same JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from trimaran.control import NodeStatus, ServerStatus, Status

_SERVER_HEAD = ("Server", "State", "In flight", "Streams", "Requests", "Failures", "Memory", "Since", "Reason")


def render(status: Status) -> str:
    """The page as HTML; complete without JavaScript."""
    addresses = " ".join(f'<a href="{escape(_url(a))}">{escape(_url(a))}</a>' for a in status.addresses)
    pools = "".join(
        f"""<section class="pool" data-pool="{escape(pool.name)}">
<h2>{escape(pool.name)} <small>{escape(pool.app or "remote servers")} &middot; {escape(pool.interface)}, {escape(pool.engine)}</small></h2>
<dl class="figures">
{_figure("requests/s", f"{pool.requests_per_s:g}", "rate")}
{_figure("p50", _ms(pool.latency_ms["p50"]), "p50")}
{_figure("p99", _ms(pool.latency_ms["p99"]), "p99")}
{_figure("p99.9", _ms(pool.latency_ms["p999"]), "p999")}
{_figure("queue", f"{pool.queue_length}", "queue")}
{_figure("oldest", f"{pool.queue_oldest_ms} ms", "oldest")}
{_figure("rejected", f"{pool.rejected_total}", "rejected")}
{_figure("retries", f"{pool.retries_total}", "retries")}
</dl>
{_table(_SERVER_HEAD, (_server_row(s) for s in status.servers if s.pool == pool.name), "servers")}
</section>"""
        for pool in status.pools
    )
    decisions = _table(
        ("Time", "Pool", "Decision", "Reason"),
        (
            (d.at[11:19], d.pool, d.action, d.reason.splitlines()[0] if d.reason else "")
            for d in reversed(status.decisions)
        ),
        "decisions",
    )
    nodes = [
        (n.name, n.role, n.state, n.address, _lag(n), "yes" if n.synchronous else "", str(n.pid or "-"), n.reason)
        for d in status.databases
        for n in d.nodes
    ]
    head = ("Node", "Role", "State", "Address", "Lag", "Synchronous", "Pid", "Reason")
    databases = _table(head, nodes, "databases") if nodes else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trimaran</title>
<link rel="stylesheet" href="/static/style.css">
<link rel="icon" href="data:,">
<script src="/static/live.js" defer></script>
</head>
<body>
<header>
<h1>Trimaran <small>{escape(status.version)}</small></h1>
<p><span id="link" role="status" aria-live="polite">snapshot</span> &middot; {addresses} &middot; pid {status.pid}
&middot; up <span id="uptime">{status.uptime_s:.0f} s</span></p>
<p><span id="requests">{status.gateway.requests_total}</span> requests &middot;
<span id="connections">{status.gateway.connections}</span> connections &middot;
<span id="responses">{escape(_classes(status))}</span></p>
</header>
<main>
{pools}
<section><h2>Decisions</h2>{decisions}</section>
{f"<section><h2>Databases</h2>{databases}</section>" if databases else ""}
</main>
<footer><a href="/api/status">/api/status</a> <a href="/metrics">/metrics</a> <a href="/healthz">/healthz</a></footer>
</body>
</html>
"""


def _server_row(server: ServerStatus) -> Sequence[str]:
    memory = server.memory_bytes
    since = server.started_at
    return (
        server.name,
        server.state,
        f"{server.in_flight} / {server.in_flight_max}",
        str(server.streams),
        str(server.requests_total),
        str(server.failures_total),
        f"{memory / 2**20:.0f} MiB" if memory else "-",
        since[11:19] if since else "-",
        server.reason,
    )


def _ms(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} ms"


def _figure(name: str, value: str, key: str) -> str:
    return f'<div><dt>{escape(name)}</dt><dd data-figure="{key}">{escape(value)}</dd></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = ("".join(_cell(cell, at, kind) for at, cell in enumerate(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(text: str, at: int, kind: str) -> str:
    if at == 0:
        return f'<th scope="row">{escape(text)}</th>'
    if at == 1 and kind == "servers":
        return f'<td><span class="state {escape(text)}">{escape(text)}</span></td>'
    return f"<td>{escape(text)}</td>"


def _lag(node: NodeStatus) -> str:
    return "-" if node.lag_bytes is None else f"{node.lag_bytes} bytes, {node.lag_ms} ms"


def _classes(status: Status) -> str:
    return "  ".join(f"{name} {count}" for name, count in status.gateway.responses_total.items() if count)


def _url(address: str) -> str:
    return address if address.startswith(("unix:", "https:")) else f"http://{address}/"
