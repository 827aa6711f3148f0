/* The view in the address: a reload, or a link sent to somebody, opens the same map. */

const SWIPE_DEFAULT = 50;

/**
 * `layer`, `right`: names, null when not told. `swipe`: percent of the map's width that is the left
 * layer's. `tint`: whether tiles are coloured. `place`: `{center, zoom}`, null when it is none.
 */
export function readView(hash) {
  const told = new URLSearchParams(hash.slice(1));
  const [zoom, lat, lng] = (told.get("map") ?? "").split("/").map(Number);
  const sound = Number.isInteger(zoom) && zoom >= 0 && Math.abs(lat) <= 90 && Math.abs(lng) <= 360;
  const swipe = Number(told.get("swipe") ?? NaN);
  return {
    layer: told.get("layer"),
    right: told.get("with"),
    swipe: swipe >= 0 && swipe <= 100 ? Math.round(swipe) : SWIPE_DEFAULT,
    tint: told.get("tint") === "1",
    place: sound ? { center: [lat, lng], zoom } : null,
  };
}

export function writeView(map, { layer, right, swipe, tint }) {
  const center = map.getCenter();
  const digits = Math.max(2, Math.ceil(map.getZoom() / 3));
  const parts = [
    `layer=${encodeURIComponent(layer)}`,
    `map=${map.getZoom()}/${center.lat.toFixed(digits)}/${center.lng.toFixed(digits)}`,
  ];
  if (right) parts.push(`with=${encodeURIComponent(right)}`, `swipe=${swipe}`);
  if (tint) parts.push("tint=1");
  history.replaceState(null, "", `#${parts.join("&")}`);
}
