/* A Leaflet layer that loads each tile with fetch(), so that the answer's headers can be shown. */

import { element, milliseconds, seconds } from "./text.js";

const RETRIES_MAX = 3;
const RETRY_WAIT_MS_MAX = 30000;
const TIMINGS_KEPT_MAX = 1000;

performance.setResourceTimingBufferSize(TIMINGS_KEPT_MAX);

/**
 * Milliseconds from sending a request to its last byte, without the time it waited in the browser
 * for a free connection; `elapsed_ms` where the browser has not noted it.
 */
function transferMs(url, elapsed_ms) {
  const noted = performance.getEntriesByName(url).at(-1);
  if (performance.getEntriesByType("resource").length > TIMINGS_KEPT_MAX / 2) performance.clearResourceTimings();
  return noted && noted.requestStart > 0 ? noted.responseEnd - noted.requestStart : elapsed_ms;
}

/**
 * What is known of one tile: `state` is loading, done, missing or failed; `place` is where the
 * service found it (X-Tile-Source); `ms` the time until its last byte; `bytes` its size; `ttl_s` how
 * long it is fresh yet, negative when it is stale, null when that is not known.
 */
function newFacts(coords) {
  return { z: coords.z, x: coords.x, y: coords.y, state: "loading", place: "", ms: 0, bytes: 0, format: "", status: 0, cause: "", ttl_s: null };
}

/** The `ttl` of our Cache-Status (RFC 9211), in seconds. */
function ttlOf(answer) {
  const told = /(?:^|;)\s*ttl=(-?\d+)/.exec(answer.headers.get("Cache-Status") ?? "");
  return told ? Number(told[1]) : null;
}

export const FetchedTiles = L.GridLayer.extend({
  initialize(template, options) {
    this._template = template;
    this._known = new Map();
    L.GridLayer.prototype.initialize.call(this, options);
    this.on("tileunload", (event) => this._leave(event.coords, event.tile));
  },

  /** The facts and the element of the tile under a position, or null when none is shown there. */
  tileAt(latlng) {
    const z = this._tileZoom;
    if (z === undefined || !this._map) return null;
    const at = this._map.project(latlng, z).unscaleBy(this.getTileSize()).floor();
    return this._known.get(`${z}/${at.x}/${at.y}`) ?? null;
  },

  /**
   * How many of the tiles held now were found at each place; failed, missing and loading ones by that
   * name. Stale ones are counted once more as `stale`.
   */
  places() {
    const counts = new Map();
    const add = (name) => counts.set(name, (counts.get(name) ?? 0) + 1);
    for (const { facts } of this._known.values()) {
      add(facts.state === "done" ? facts.place : facts.state);
      if (facts.state === "done" && facts.ttl_s < 0) add("stale");
    }
    return counts;
  },

  createTile(coords, done) {
    const cell = document.createElement("div");
    cell.className = "tile loading";
    const facts = newFacts(coords);
    cell.append(element("span", "address", `${coords.z}/${coords.x}/${coords.y}`));
    cell.facts = facts;
    cell.stop = new AbortController();
    // Leaflet names a tile by where it stands; `coords` has been wrapped around the globe already.
    queueMicrotask(() => this._load(cell, facts, done, 0));
    return cell;
  },

  _addTile(coords, container) {
    L.GridLayer.prototype._addTile.call(this, coords, container);
    const held = this._tiles[this._tileCoordsToKey(coords)];
    if (held) this._known.set(`${coords.z}/${coords.x}/${coords.y}`, { facts: held.el.facts, cell: held.el });
  },

  _leave(coords, cell) {
    cell.stop.abort();
    clearTimeout(cell.retry);
    if (cell.address) URL.revokeObjectURL(cell.address);
    cell.address = "";
    const key = `${coords.z}/${coords.x}/${coords.y}`;
    if (this._known.get(key)?.cell === cell) this._known.delete(key);
  },

  async _load(cell, facts, done, attempt) {
    const began = performance.now();
    const url = new URL(L.Util.template(this._template, facts), location.href).href;
    try {
      // no-cache: the browser asks each time whether its copy is current, so the shown place is today's.
      const answer = await fetch(url, { cache: "no-cache", signal: cell.stop.signal });
      facts.status = answer.status;
      facts.place = answer.headers.get("X-Tile-Source") ?? "";
      facts.format = answer.headers.get("X-Tile-Format") ?? "";
      facts.ttl_s = ttlOf(answer);
      const body = await answer.blob();
      facts.ms = transferMs(url, performance.now() - began);
      if (answer.status === 200) await this._show(cell, facts, body);
      else if (answer.status === 404 || answer.status === 204) facts.state = "missing";
      else await this._fail(cell, facts, answer, body, done, attempt);
    } catch (error) {
      if (cell.stop.signal.aborted) return;
      facts.state = "failed";
      facts.cause = error instanceof TypeError ? "service not reachable" : String(error.message ?? error);
    }
    if (cell.stop.signal.aborted) return;
    this._mark(cell, facts);
    done(null, cell);
    this.fire("facts", { facts });
  },

  async _show(cell, facts, blob) {
    facts.bytes = blob.size;
    if (!blob.type.startsWith("image/")) {
      facts.state = "done";
      cell.classList.add("vector");
      return;
    }
    const picture = document.createElement("img");
    picture.alt = "";
    picture.draggable = false;
    cell.address = URL.createObjectURL(blob);
    picture.src = cell.address;
    try {
      await picture.decode();
      cell.prepend(picture);
      facts.state = "done";
    } catch (error) {
      if (cell.stop.signal.aborted) return;
      facts.state = "failed";
      facts.cause = "not a picture the browser can show";
    }
    URL.revokeObjectURL(cell.address);
    cell.address = "";
  },

  async _fail(cell, facts, answer, body, done, attempt) {
    facts.state = "failed";
    try {
      const told = JSON.parse(await body.text());
      facts.cause = told.cause ?? "";
    } catch (error) {
      facts.cause = "";
    }
    const wait_s = Number(answer.headers.get("Retry-After"));
    if (answer.status === 503 && wait_s > 0 && attempt < RETRIES_MAX) {
      const wait_ms = Math.min(wait_s * 1000, RETRY_WAIT_MS_MAX);
      cell.retry = setTimeout(() => this._load(cell, facts, done, attempt + 1), wait_ms);
    }
  },

  _mark(cell, facts) {
    cell.classList.remove("loading", "done", "missing", "failed");
    cell.classList.add(facts.state);
    cell.dataset.place = facts.state === "done" ? facts.place : facts.state;
    const stale = facts.state === "done" && facts.ttl_s < 0;
    cell.classList.toggle("stale", stale);
    for (const old of cell.querySelectorAll(".plaque, .badge")) old.remove();
    if (facts.state === "done") {
      // The letter before it is the style's, one for each place.
      const badge = element("span", "badge", `${facts.place} ${milliseconds(facts.ms)}`);
      if (stale) badge.append(element("b", "", ` stale ${seconds(-facts.ttl_s)}`));
      cell.append(badge);
    } else if (facts.state === "failed") {
      cell.append(element("span", "plaque", element("b", "", String(facts.status || "no answer")), facts.cause));
    } else {
      cell.append(element("span", "plaque", "no tile here"));
    }
  },
});
