/* A handle that divides the map between two layers: left of it one shows, right of it the other. */

const STEP = 1;
const STEP_LARGE = 10;
// Where each key moves the handle, from the percent it stands at.
const KEYS = {
  ArrowLeft: (at) => at - STEP,
  ArrowDown: (at) => at - STEP,
  ArrowRight: (at) => at + STEP,
  ArrowUp: (at) => at + STEP,
  PageDown: (at) => at - STEP_LARGE,
  PageUp: (at) => at + STEP_LARGE,
  Home: () => 0,
  End: () => 100,
};

export class Swipe {
  /** `handle` is an element over the map with the role of a slider; `moved` is told after each move. */
  constructor(map, handle, moved) {
    this.at = 50;
    this.map = map;
    this.handle = handle;
    this.moved = moved;
    this.sides = null;
    map.on("move zoom viewreset resize", () => this._clip());
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      handle.focus({ preventScroll: true, focusVisible: false });
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = map.getContainer().getBoundingClientRect();
      this._move(((event.clientX - box.left) / box.width) * 100);
    });
    handle.addEventListener("keydown", (event) => {
      const where = KEYS[event.key];
      if (!where || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      this._move(where(this.at));
    });
  }

  /** Divide at `at` percent between two Leaflet layers, each `{tiles, title}`. */
  show(left, right, at) {
    this.sides = { left, right };
    this.handle.hidden = false;
    this._place(at);
  }

  hide() {
    this.sides?.left.tiles.getContainer()?.style.removeProperty("clip-path");
    this.sides = null;
    this.handle.hidden = true;
  }

  /** The side a point of the map's window lies on; "left" when nothing is divided. */
  sideOf(point) {
    return this.sides && point.x >= (this.map.getSize().x * this.at) / 100 ? "right" : "left";
  }

  _move(at) {
    const before = this.at;
    this._place(at);
    if (this.at !== before) this.moved();
  }

  _place(at) {
    this.at = Math.round(Math.max(0, Math.min(100, at)));
    this.handle.style.left = `${this.at}%`;
    this.handle.setAttribute("aria-valuenow", String(this.at));
    const { left, right } = this.sides;
    this.handle.setAttribute("aria-valuetext", `${this.at} % ${left.title}, ${100 - this.at} % ${right.title}`);
    this.handle.firstElementChild.textContent = left.title;
    this.handle.lastElementChild.textContent = right.title;
    this._clip();
  }

  _clip() {
    if (!this.sides) return;
    // A layer's own pixels begin at the map's pane, which wanders as the map is dragged.
    const size = this.map.getSize();
    const from = this.map.containerPointToLayerPoint([0, 0]);
    const to = this.map.containerPointToLayerPoint(size);
    const middle = from.x + (size.x * this.at) / 100;
    const cut = (tiles, west, east) => {
      const container = tiles.getContainer();
      const corners = [[west, from.y], [east, from.y], [east, to.y], [west, to.y]];
      if (container) container.style.clipPath = `polygon(${corners.map(([x, y]) => `${x}px ${y}px`).join(",")})`;
    };
    cut(this.sides.left.tiles, from.x, middle);
    cut(this.sides.right.tiles, middle, to.x);
  }
}
