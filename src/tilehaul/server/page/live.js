/* The service's figures, asked for again and again while somebody looks. */

import { Charts } from "./charts.js";
import { showJobs } from "./jobs.js";
import { $, count, element, kilobytes, percent } from "./text.js";

const POLL_MS = 2000;
const PATIENCE_MS = 5000;
const LANES_SHOWN_MAX = 24;
const CAUSES_SHOWN_MAX = 4;

function figures(stats) {
  $("requests").textContent = count(stats.requests);
  $("hit_rate").textContent = stats.requests ? percent(stats.hit_rate_percent) : "–";
  $("in_flight").textContent = count(stats.in_flight);
  $("hits").textContent = count(stats.hits);
  $("stale").textContent = count(stats.stale);
  $("coalesced").textContent = count(stats.coalesced);
  $("memory").textContent = stats.cache ? kilobytes(stats.cache.bytes) : "off";
  $("disk").textContent = stats.disk ? kilobytes(stats.disk.bytes) : "off";
  $("caches_rows").replaceChildren(cacheRow("memory", stats.cache), cacheRow("disk", stats.disk));
  const causes = Object.entries(stats.errors);
  const errors = causes.reduce((sum, [, n]) => sum + n, 0);
  $("errors").textContent = count(errors);
  $("errors").classList.toggle("bad", errors > 0);
  $("causes").hidden = errors === 0;
  $("causes").replaceChildren(...causes.slice(0, CAUSES_SHOWN_MAX).map(([cause, n]) => element("li", "", `${cause} × ${count(n)}`)));
}

function cacheRow(name, cache) {
  if (!cache) return row(name, "off", "", "", "");
  const share = `${kilobytes(cache.bytes)} of ${kilobytes(cache.bytes_max)}`;
  return row(name, count(cache.tiles), share, count(cache.hits), count(cache.evictions));
}

/** A row of a table: its name, and the cells, texts or elements. */
function row(name, ...cells) {
  const head = element("th", "", name);
  head.scope = "row";
  return element("tr", "", head, ...cells.map((cell) => (cell instanceof Element ? cell : element("td", "", cell))));
}

function laneRow(lane) {
  const gate = lane.gate === "held" ? `held ${Math.ceil(lane.gate_wait_s)} s` : lane.gate;
  return row(
    lane.name,
    `${count(lane.in_flight)} / ${count(lane.limit)}`,
    count(lane.queue_depth),
    element("td", lane.gate === "open" ? "" : "bad", gate),
    element("td", lane.breaker === "closed" ? "" : "bad", lane.breaker.replace("_", " ")),
  );
}

function lanes(byLayer) {
  const all = Object.values(byLayer ?? {}).flat();
  $("lanes").hidden = all.length === 0;
  $("lanes_rows").replaceChildren(...all.slice(0, LANES_SHOWN_MAX).map(laneRow));
  const left = all.length - LANES_SHOWN_MAX;
  $("lanes_note").hidden = all.length > 0 && left <= 0;
  $("lanes_note").textContent = left > 0 ? `and ${count(left)} more: see /api/stats` : "No layer has an origin elsewhere.";
}

function say(kind, text) {
  const out = $("state");
  if (out.dataset.state === kind) return;
  out.dataset.state = kind;
  out.textContent = text;
}

/** Asks every POLL_MS, as long as the page is visible. */
export function follow() {
  const charts = new Charts($("charts"));
  let timer = 0;
  let asking = false;
  let answered_ms = 0;

  async function ask() {
    clearTimeout(timer);
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch("/api/stats", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      const stats = await answer.json();
      answered_ms = Date.now();
      figures(stats);
      charts.add(answered_ms, stats);
      lanes(stats.lanes);
      await showJobs(stats.jobs);
      say("live", "live");
      $("away").hidden = true;
    } catch (error) {
      say("away", "no answer");
      const since = answered_ms ? ` These figures are of ${new Date(answered_ms).toLocaleTimeString()}.` : "";
      $("away").textContent = `The service does not answer; asked again every ${POLL_MS / 1000} s.${since}`;
      $("away").hidden = false;
    }
    asking = false;
    timer = setTimeout(ask, POLL_MS);
  }

  document.addEventListener("visibilitychange", ask);
  ask();
}
