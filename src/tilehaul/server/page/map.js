/* The map page: layers to choose from, the service's figures, and what is known of each tile. */

import { FetchedTiles } from "./tiles.js";

const POLL_MS = 1000;
// Enlarging the deepest tiles twice is useful to look closely; further only shows blocks.
const ZOOMS_ENLARGED = 2;
// In the order of their cost; the last three are not places but have a colour too.
const PLACES = ["memory", "disk", "store", "origin", "fallback", "missing", "failed", "loading"];

const INVITATION = window.matchMedia("(hover: none)").matches ? "Tap a tile" : "Point at a tile";

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const count = (value) => (value < 100000 ? whole.format(value) : short.format(value));
const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : value < 10000 ? `${whole.format(value)} ms` : `${(value / 1000).toFixed(1)} s`);
const kilobytes = (value) => (value === 0 ? "0 kB" : value < 1e6 ? `${(value / 1e3).toFixed(value < 1e4 ? 1 : 0)} kB` : `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`);

const state = { map: null, tiles: null, layers: [], layer: null, pointed: null, summing: 0 };

/** Attributions come from elsewhere: only their text and their links to the web are taken over. */
function attributionNodes(text) {
  const parsed = new DOMParser().parseFromString(text, "text/html");
  const out = document.createElement("span");
  const walk = (from, into) => {
    for (const node of from.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) into.append(node.textContent);
      else if (node.nodeName === "A" && /^https?:\/\//i.test(node.getAttribute("href") ?? "")) {
        const link = document.createElement("a");
        link.href = node.getAttribute("href");
        link.rel = "noopener noreferrer";
        link.target = "_blank";
        walk(node, link);
        into.append(link);
      } else if (node.nodeName !== "SCRIPT" && node.nodeName !== "STYLE") walk(node, into);
    }
  };
  walk(parsed.body, out);
  return out;
}

function boundsOf(layer) {
  const [west, south, east, north] = layer.bounds;
  // Across the antimeridian the east edge is the smaller number; Leaflet counts on beyond 180.
  return L.latLngBounds([south, west], [north, east < west ? east + 360 : east]);
}

function show(layer, view) {
  state.layer = layer;
  state.tiles?.remove();
  const bounds = boundsOf(layer);
  state.map.setMinZoom(0);
  state.map.setMaxZoom(layer.maxzoom + ZOOMS_ENLARGED);
  const tiles = new FetchedTiles(layer.tiles, {
    attribution: attributionNodes(layer.attribution).innerHTML,
    bounds: bounds.pad(-1e-9),
    minZoom: layer.minzoom,
    maxZoom: layer.maxzoom + ZOOMS_ENLARGED,
    maxNativeZoom: layer.maxzoom,
    keepBuffer: 1,
    updateWhenZooming: false,
  });
  if (view) state.map.setView(view.center, clamp(view.zoom, layer), { animate: false });
  else open(layer, bounds);
  state.map.setMinZoom(layer.minzoom);
  tiles.on("facts tileunload", sumUp);
  tiles.on("facts", (event) => {
    if (state.pointed && state.pointed.facts === event.facts) tell(state.pointed);
  });
  state.tiles = tiles.addTo(state.map);
  for (const radio of $("layers").elements) radio.checked = radio.value === layer.name;
  remember();
}

const clamp = (zoom, layer) => Math.max(layer.minzoom, Math.min(zoom, layer.maxzoom + ZOOMS_ENLARGED));

/** A layer of the whole world opens with the continents filling the window, others fit theirs. */
function open(layer, bounds) {
  const [south, north] = [bounds.getSouth(), bounds.getNorth()];
  if (bounds.getEast() - bounds.getWest() > 270) {
    const width = state.map.getSize().x;
    state.map.setView([Math.max(south, Math.min(25, north)), 12], clamp(width < 700 ? 2 : 3, layer), { animate: false });
    return;
  }
  const zoom = Math.min(state.map.getBoundsZoom(bounds), layer.maxzoom);
  state.map.setView(bounds.getCenter(), clamp(zoom, layer), { animate: false });
}

function list(layers) {
  const form = $("layers");
  form.replaceChildren();
  for (const layer of layers) {
    const row = document.createElement("label");
    row.className = "layer";
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "layer";
    radio.value = layer.name;
    radio.addEventListener("change", () => show(layer));
    const text = document.createElement("span");
    text.className = "about";
    const title = document.createElement("strong");
    title.textContent = layer.title;
    const facts = document.createElement("small");
    facts.textContent = `zoom ${layer.minzoom}–${layer.maxzoom} · ${layer.format}`;
    text.append(title, facts);
    if (layer.attribution) {
      const source = document.createElement("small");
      source.className = "source";
      source.append(attributionNodes(layer.attribution));
      text.append(source);
    }
    row.append(radio, text);
    form.append(row);
  }
}

function point(event) {
  const tile = state.tiles?.tileAt(event.latlng) ?? null;
  if (tile?.cell !== state.pointed?.cell) {
    state.pointed?.cell.classList.remove("pointed");
    tile?.cell.classList.add("pointed");
  }
  state.pointed = tile;
  tell(tile);
}

/** Says what is known of the tile under the pointer. */
function tell(tile) {
  const out = $("readout");
  if (!tile) {
    out.dataset.place = "none";
    out.textContent = INVITATION;
    return;
  }
  const { facts } = tile;
  const parts = [];
  if (facts.state === "loading") parts.push("loading");
  else if (facts.state === "failed") parts.push(String(facts.status || "no answer"), facts.cause);
  else if (facts.state === "missing") parts.push("no tile here");
  else parts.push(facts.place, milliseconds(facts.ms), kilobytes(facts.bytes), facts.format);
  const address = document.createElement("b");
  address.textContent = `${facts.z}/${facts.x}/${facts.y}`;
  out.dataset.place = facts.state === "failed" ? "failed" : facts.state === "done" ? facts.place : "none";
  out.replaceChildren(address);
  for (const part of parts.filter(Boolean)) {
    const piece = document.createElement("span");
    piece.textContent = part;
    out.append(piece);
  }
}

/** Draws where the tiles of this view were found; once per frame however many tiles change. */
function sumUp() {
  if (state.summing) return;
  state.summing = requestAnimationFrame(() => {
    state.summing = 0;
    const counts = state.tiles.places();
    const named = PLACES.filter((place) => counts.get(place));
    $("places_bar").replaceChildren(...named.map((place) => {
      const part = document.createElement("i");
      part.dataset.place = place;
      part.style.flexGrow = counts.get(place);
      return part;
    }));
    $("places").replaceChildren(...named.map((place) => {
      const row = document.createElement("li");
      row.dataset.place = place;
      row.textContent = `${place} ${counts.get(place)}`;
      return row;
    }));
  });
}

function figures(stats) {
  $("requests").textContent = count(stats.requests);
  $("hits").textContent = count(stats.hits);
  $("hit_rate").textContent = stats.requests ? `${stats.hit_rate_percent.toFixed(stats.hit_rate_percent < 99.95 ? 1 : 0)} %` : "–";
  $("in_flight").textContent = count(stats.in_flight);
  $("coalesced").textContent = count(stats.coalesced);
  const fetched = stats.fetches + stats.fetches_failed > 0;
  $("p50").textContent = fetched ? milliseconds(stats.fetch_p50_ms) : "–";
  $("p95").textContent = fetched ? milliseconds(stats.fetch_p95_ms) : "–";
  $("memory").textContent = stats.cache ? kilobytes(stats.cache.bytes) : "off";
  const causes = Object.entries(stats.errors);
  const errors = causes.reduce((sum, [, n]) => sum + n, 0);
  $("errors").textContent = count(errors);
  $("errors").classList.toggle("bad", errors > 0);
  $("causes").hidden = errors === 0;
  $("causes").replaceChildren(...causes.slice(0, 4).map(([cause, n]) => {
    const row = document.createElement("li");
    row.textContent = `${cause} × ${count(n)}`;
    return row;
  }));
}

function say(kind, text) {
  const out = $("state");
  if (out.dataset.state === kind) return;
  out.dataset.state = kind;
  out.textContent = text;
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/api/stats", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(String(answer.status));
      figures(await answer.json());
      say("live", "live");
    } catch (error) {
      say("away", "no answer");
    }
  }
  setTimeout(poll, POLL_MS);
}

/** Layer and view live in the address, so that a reload or a sent link opens the same map. */
function remember() {
  const center = state.map.getCenter();
  const digits = Math.max(2, Math.ceil(state.map.getZoom() / 3));
  const view = `${state.map.getZoom()}/${center.lat.toFixed(digits)}/${center.lng.toFixed(digits)}`;
  history.replaceState(null, "", `#layer=${encodeURIComponent(state.layer.name)}&map=${view}`);
}

function remembered() {
  const told = new URLSearchParams(location.hash.slice(1));
  const [zoom, lat, lng] = (told.get("map") ?? "").split("/").map(Number);
  const whole = Number.isInteger(zoom) && zoom >= 0 && Math.abs(lat) <= 90 && Math.abs(lng) <= 360;
  return { name: told.get("layer"), view: whole ? { center: [lat, lng], zoom } : null };
}

function fold(closed) {
  $("panel").classList.toggle("closed", closed);
  $("fold").setAttribute("aria-expanded", String(!closed));
}

async function begin() {
  state.map = L.map("map", { zoomControl: false, worldCopyJump: true });
  state.map.attributionControl.setPrefix('<a href="https://leafletjs.com" target="_blank" rel="noopener noreferrer">Leaflet</a>');
  L.control.zoom({ position: "topright" }).addTo(state.map);
  L.control.scale({ position: "bottomright", imperial: false, maxWidth: 160 }).addTo(state.map);
  state.map.on("mousemove click", point);
  state.map.on("mouseout movestart", () => {
    state.pointed?.cell.classList.remove("pointed");
    state.pointed = null;
    tell(null);
  });
  $("fold").addEventListener("click", () => fold(!$("panel").classList.contains("closed")));
  fold(window.matchMedia("(max-width: 640px)").matches);
  $("grid").addEventListener("change", (event) => $("map").classList.toggle("gridded", event.target.checked));

  tell(null);
  poll();
  let pictures = 0;
  try {
    const answer = await fetch("/api/layers");
    const { layers } = await answer.json();
    // A picture in its own pixels lies nowhere on a map.
    state.layers = layers.filter((one) => !one.pixels);
    pictures = layers.length - state.layers.length;
  } catch (error) {
    state.layers = [];
  }
  list(state.layers);
  if (state.layers.length === 0) {
    $("note").textContent = pictures
      ? "This service has pictures and no map. OpenSeadragon shows them: see /api/tiles/LAYER/info."
      : "This service has no layers. Add some under layers: in its configuration.";
    $("note").hidden = false;
    state.map.setView([25, 12], 2);
    return;
  }
  const { name, view } = remembered();
  const layer = state.layers.find((one) => one.name === name);
  show(layer ?? state.layers[0], layer ? view : null);
  state.map.on("moveend", remember);
}

begin();
