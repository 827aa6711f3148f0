/* The map page: layers to choose from and to compare, and what is known of each tile. */

import { follow } from "./live.js";
import { Swipe } from "./swipe.js";
import { $, attributionNodes, element, kilobytes, milliseconds, seconds } from "./text.js";
import { FetchedTiles } from "./tiles.js";
import { readView, writeView } from "./view.js";

// Enlarging the deepest tiles twice is useful to look closely; further only shows blocks.
const ZOOMS_ENLARGED = 2;
// Zooms are bounded by the map, so that the shallower of two layers is enlarged as far as the other goes.
const ZOOM_MAX = 40;
// In the order of their cost; the last four are not places but have a letter too.
const PLACES = ["memory", "disk", "store", "origin", "fallback", "missing", "failed", "loading", "stale"];

const INVITATION = window.matchMedia("(hover: none)").matches ? "Tap a tile" : "Point at a tile";

// `left` and `right` are `{layer, title, tiles}`; without a comparison there is only the left one.
const state = { map: null, swipe: null, layers: [], left: null, right: null, pointed: null, summing: 0 };

function boundsOf(layer) {
  const [west, south, east, north] = layer.bounds;
  // Across the antimeridian the east edge is the smaller number; Leaflet counts on beyond 180.
  return L.latLngBounds([south, west], [north, east < west ? east + 360 : east]);
}

/** Puts a layer on one side, in place of what was there; null leaves the side empty. */
function lay(side, layer) {
  point(null);
  state[side]?.tiles.remove();
  state[side] = null;
  if (!layer) return;
  const tiles = new FetchedTiles(layer.tiles, {
    attribution: attributionNodes(layer.attribution).innerHTML,
    bounds: boundsOf(layer).pad(-1e-9),
    minZoom: layer.minzoom,
    maxZoom: ZOOM_MAX,
    maxNativeZoom: layer.maxzoom,
    keepBuffer: 1,
    updateWhenZooming: false,
    zIndex: side === "left" ? 1 : 2,
  });
  tiles.on("facts tileunload", sumUp);
  tiles.on("facts", (event) => {
    if (state.pointed?.facts === event.facts) tell(state.pointed);
  });
  state[side] = { layer, title: layer.title, tiles: tiles.addTo(state.map) };
}

const deepest = (layer, right) => Math.max(layer.maxzoom, right?.maxzoom ?? 0) + ZOOMS_ENLARGED;
const clamp = (zoom, layer) => Math.max(layer.minzoom, Math.min(zoom, deepest(layer)));

/** Shows `layer`, and `right` beside it when there is one, at `place` (`{center, zoom}`). */
function show(layer, { right = null, place = null, at = state.swipe.at } = {}) {
  const map = state.map;
  const bounds = boundsOf(layer);
  map.setMinZoom(0);
  map.setMaxZoom(deepest(layer, right));
  if (place) map.setView(place.center, Math.max(layer.minzoom, Math.min(place.zoom, deepest(layer, right))), { animate: false });
  else open(layer, bounds);
  map.setMinZoom(layer.minzoom);
  // A side that stays what it is keeps its tiles.
  if (state.left?.layer !== layer) lay("left", layer);
  if ((state.right?.layer ?? null) !== right) lay("right", right);
  if (right) state.swipe.show(state.left, state.right, at);
  else state.swipe.hide();
  for (const radio of $("layers").elements) radio.checked = radio.value === layer.name;
  offer();
  sumUp();
  remember();
}

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

const here = () => ({ center: state.map.getCenter(), zoom: state.map.getZoom() });

/** Another left layer: the place is kept where it has tiles there, and always while two are compared. */
function choose(layer) {
  const { center, zoom } = here();
  const right = state.right?.layer === layer ? state.left.layer : state.right?.layer ?? null;
  const kept = right || (boundsOf(layer).contains(center) && zoom >= layer.minzoom && zoom <= deepest(layer));
  show(layer, { right, place: kept ? here() : null });
}

/** What the layer on the map can be compared with. */
function offer() {
  const select = $("compare");
  const others = state.layers.filter((one) => one !== state.left.layer);
  select.replaceChildren(new Option("nothing", ""), ...others.map((one) => new Option(one.title, one.name)));
  select.value = state.right?.layer.name ?? "";
  $("comparing").hidden = others.length === 0;
  $("swap").hidden = !state.right;
}

function list(layers) {
  $("layers").replaceChildren(...layers.map((layer) => {
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "layer";
    radio.value = layer.name;
    radio.addEventListener("change", () => choose(layer));
    const facts = element("small", "", `zoom ${layer.minzoom}–${layer.maxzoom} · ${layer.format}`);
    const text = element("span", "about", element("strong", "", layer.title), facts);
    if (layer.attribution) text.append(element("small", "source", attributionNodes(layer.attribution)));
    return element("label", "layer", radio, text);
  }));
}

/** Marks the tile at a place of the map (`{latlng}`; null: none) and says what is known of it. */
function point(event) {
  const side = event && state.swipe.sideOf(state.map.latLngToContainerPoint(event.latlng));
  const tile = (side && state[side]?.tiles.tileAt(event.latlng)) ?? null;
  if (tile?.cell !== state.pointed?.cell) {
    state.pointed?.cell.classList.remove("pointed");
    tile?.cell.classList.add("pointed");
  }
  state.pointed = tile;
  tell(tile);
}

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
  else {
    parts.push(facts.place, milliseconds(facts.ms), kilobytes(facts.bytes), facts.format);
    if (facts.ttl_s !== null) parts.push(facts.ttl_s < 0 ? `stale for ${seconds(-facts.ttl_s)}` : `fresh for ${seconds(facts.ttl_s)}`);
  }
  out.dataset.place = facts.state === "failed" ? "failed" : facts.state === "done" ? facts.place : "none";
  const pieces = parts.filter(Boolean).map((part) => element("span", "", part));
  out.replaceChildren(element("b", "", `${facts.z}/${facts.x}/${facts.y}`), ...pieces);
}

/** Draws where the tiles of this view were found; once per frame however many tiles change. */
function sumUp() {
  if (state.summing) return;
  state.summing = requestAnimationFrame(() => {
    state.summing = 0;
    const counts = new Map();
    for (const side of [state.left, state.right]) {
      for (const [place, n] of side?.tiles.places() ?? []) counts.set(place, (counts.get(place) ?? 0) + n);
    }
    const named = PLACES.filter((place) => counts.get(place));
    const rows = named.map((place) => {
      const part = element("i", "");
      part.dataset.place = place;
      part.style.flexGrow = counts.get(place);
      const row = element("li", "", `${place} ${counts.get(place)}`);
      row.dataset.place = place;
      return { part, row };
    });
    // Stale tiles are in the bar already, as what they are otherwise.
    $("places_bar").replaceChildren(...rows.filter(({ part }) => part.dataset.place !== "stale").map(({ part }) => part));
    $("places").replaceChildren(...rows.map(({ row }) => row));
  });
}

function remember() {
  if (!state.left) return;
  writeView(state.map, {
    layer: state.left.layer.name,
    right: state.right?.layer.name ?? null,
    swipe: state.swipe.at,
    tint: $("tint").checked,
  });
}

/** Opens what the address says, or the first layer. */
function restore() {
  const view = readView(location.hash);
  const named = (name) => state.layers.find((one) => one.name === name) ?? null;
  const layer = named(view.layer);
  const right = layer && view.right !== view.layer ? named(view.right) : null;
  $("tint").checked = view.tint;
  $("map").classList.toggle("tinted", view.tint);
  show(layer ?? state.layers[0], { right, place: layer ? view.place : null, at: view.swipe });
}

function fold(closed) {
  $("panel").classList.toggle("closed", closed);
  $("fold").setAttribute("aria-expanded", String(!closed));
}

/** Charts and lanes have a panel of their own where there is room, else they end the first one. */
function house(wide) {
  $(wide ? "beside" : "body").append($("live"));
  $("beside").hidden = !wide;
}

function listen() {
  const map = state.map;
  const container = map.getContainer();
  map.on("mousemove click", point);
  map.on("mouseout movestart", () => point(null));
  // Who moves the map by its keys points with its middle.
  const middle = () => container.matches(":focus-visible") && point({ latlng: map.getCenter() });
  container.addEventListener("focus", middle);
  container.addEventListener("blur", () => point(null));
  map.on("moveend", () => {
    remember();
    middle();
  });
  $("fold").addEventListener("click", () => fold(!$("panel").classList.contains("closed")));
  fold(window.matchMedia("(max-width: 640px)").matches);
  const wide = window.matchMedia("(min-width: 1100px)");
  wide.addEventListener("change", () => house(wide.matches));
  house(wide.matches);
  $("grid").addEventListener("change", (event) => container.classList.toggle("gridded", event.target.checked));
  $("tint").addEventListener("change", (event) => {
    container.classList.toggle("tinted", event.target.checked);
    remember();
  });
  const named = (name) => state.layers.find((one) => one.name === name) ?? null;
  $("compare").addEventListener("change", (event) => show(state.left.layer, { right: named(event.target.value), place: here() }));
  $("swap").addEventListener("click", () => choose(state.right.layer));
  // Ours are written without this event: somebody typed or pasted another view.
  window.addEventListener("hashchange", () => state.layers.length && restore());
}

async function begin() {
  state.map = L.map("map", { zoomControl: false, worldCopyJump: true });
  state.map.attributionControl.setPrefix('<a href="https://leafletjs.com" target="_blank" rel="noopener noreferrer">Leaflet</a>');
  L.control.scale({ position: "bottomright", imperial: false, maxWidth: 160 }).addTo(state.map);
  L.control.zoom({ position: "bottomright" }).addTo(state.map);
  state.swipe = new Swipe(state.map, $("swipe"), remember);
  point(null);
  listen();
  follow();
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
  restore();
}

begin();
