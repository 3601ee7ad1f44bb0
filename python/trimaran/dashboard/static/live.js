// Keeps the page up to date from /api/status once a second. Everything from outside goes in as text, never as HTML.
"use strict";

const PERIOD_MS = 1000;
const KEPT = 120;
const history = new Map();

const el = (name, text, className) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};

const rows = (table, lines, stateAt) => {
  const body = el("tbody");
  for (const line of lines) {
    const row = el("tr");
    line.forEach((cell, at) => {
      const node = el(at === 0 ? "th" : "td", at === stateAt ? undefined : cell);
      if (at === 0) node.scope = "row";
      if (at === stateAt) node.append(el("span", cell, `state ${cell}`));
      row.append(node);
    });
    body.append(row);
  }
  table.tBodies[0].replaceWith(body);
};

const spark = (holder, key, value) => {
  const values = history.get(key) ?? [];
  values.push(value);
  if (values.length > KEPT) values.shift();
  history.set(key, values);
  const most = Math.max(...values, 1e-9);
  const points = values.map((v, at) => `${(at / (KEPT - 1)) * 100},${19 - (v / most) * 18}`).join(" ");
  let svg = holder.querySelector("svg");
  if (!svg) {
    const space = "http://www.w3.org/2000/svg";
    svg = document.createElementNS(space, "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 100 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(space, "polyline"));
    holder.append(svg);
  }
  svg.firstChild.setAttribute("points", points);
};

const ms = (value) => `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ms`;
const memory = (bytes) => (bytes ? `${Math.round(bytes / 1048576)} MiB` : "-");
const clock = (iso) => (iso ? iso.slice(11, 19) : "-");

const showPool = (section, pool, servers) => {
  const figures = {
    rate: `${pool.requests_per_s}`, p50: ms(pool.latency_ms.p50), p99: ms(pool.latency_ms.p99),
    p999: ms(pool.latency_ms.p999), queue: `${pool.queue_length}`, oldest: `${pool.queue_oldest_ms} ms`,
    rejected: `${pool.rejected_total}`, retries: `${pool.retries_total}`,
  };
  for (const [key, value] of Object.entries(figures)) {
    section.querySelector(`[data-figure="${key}"]`).textContent = value;
  }
  for (const [key, value] of [["rate", pool.requests_per_s], ["p99", pool.latency_ms.p99], ["queue", pool.queue_length]]) {
    spark(section.querySelector(`[data-figure="${key}"]`).parentNode, `${pool.name} ${key}`, value);
  }
  rows(section.querySelector("table.servers"), servers.map((s) => [
    s.name, s.state, `${s.in_flight} / ${s.in_flight_max}`, `${s.streams}`, `${s.requests_total}`, `${s.failures_total}`,
    memory(s.memory_bytes), clock(s.started_at), s.reason]), 1);
};

const show = (status) => {
  document.getElementById("uptime").textContent = `${Math.round(status.uptime_s)} s`;
  document.getElementById("requests").textContent = status.gateway.requests_total;
  document.getElementById("connections").textContent = status.gateway.connections;
  document.getElementById("responses").textContent = Object.entries(status.gateway.responses_total)
    .filter(([, count]) => count).map(([name, count]) => `${name} ${count}`).join("  ");
  for (const section of document.querySelectorAll("section.pool")) {
    const pool = status.pools.find((candidate) => candidate.name === section.dataset.pool);
    if (pool) showPool(section, pool, status.servers.filter((server) => server.pool === pool.name));
  }
  rows(document.querySelector("table.decisions"), [...status.decisions].reverse().map((d) =>
    [clock(d.at), d.pool, d.action, d.reason.split("\n")[0]]));
  const databases = document.querySelector("table.databases");
  if (databases) rows(databases, status.databases.flatMap((d) => d.nodes.map((n) => [n.name, n.role, n.state, n.address,
    n.lag_bytes === null ? "-" : `${n.lag_bytes} bytes, ${n.lag_ms} ms`, n.synchronous ? "yes" : "", `${n.pid ?? "-"}`, n.reason])));
};

const link = document.getElementById("link");
const tell = (text, lost) => {
  if (link.textContent === text) return;
  link.textContent = text;
  link.className = lost ? "lost" : "";
};

const refresh = async () => {
  if (!document.hidden) {
    try {
      const answer = await fetch("/api/status", { signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
      tell("live", false);
    } catch (error) {
      tell("connection lost; the figures are old", true);
    }
  }
  setTimeout(refresh, PERIOD_MS);
};

refresh();
