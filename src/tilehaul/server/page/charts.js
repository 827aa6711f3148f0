/* Line charts of the last minutes, drawn as SVG from what /api/stats has told. */

import { count, element, milliseconds, percent } from "./text.js";

const KEPT_MS = 5 * 60 * 1000;
// Two answers further apart than this have a gap between them: the page was hidden, or nobody answered.
const GAP_MS = 10 * 1000;
const WIDTH = 240;
const HEIGHT = 40;
const SVG = "http://www.w3.org/2000/svg";

const time = (value) => (value < 1000 ? milliseconds(value) : `${(value / 1000).toFixed(1)} s`);
const rate = (value) => (value < 100 ? value.toFixed(1) : count(value));

// Lines of one chart differ by their dashes (style.css), not by colour alone.
const CHARTS = [
  { title: "Requests per second", lines: [["rate", "requests"]], write: rate, least: 1, empty: "None asked for yet" },
  { title: "From cache", lines: [["hits", "hits"]], write: percent, most: 100, empty: "No requests in these 5 minutes" },
  { title: "Fetch time", lines: [["p50", "p50"], ["p95", "p95"], ["p99", "p99"]], write: time, least: 10, empty: "Nothing fetched yet" },
  { title: "Lanes", lines: [["in_flight", "in flight"], ["queue", "queue"], ["limit", "limit"]], write: count, least: 1, empty: "No layer has an origin elsewhere" },
];

/** One moment's values, null where there is none, from two answers of /api/stats. */
function pointOf(at_ms, stats, before) {
  const asked = before ? stats.requests - before.stats.requests : -1;
  const elapsed_s = before ? (at_ms - before.at_ms) / 1000 : 0;
  // Fewer than before: the service was started anew between the two.
  const known = asked >= 0 && elapsed_s > 0 && elapsed_s * 1000 < GAP_MS;
  const fetched = stats.fetches + stats.fetches_failed > 0;
  const lanes = Object.values(stats.lanes ?? {}).flat();
  const sum = (field) => (lanes.length ? lanes.reduce((total, lane) => total + lane[field], 0) : null);
  return {
    at_ms,
    rate: known ? asked / elapsed_s : null,
    hits: known && asked > 0 ? (100 * (stats.hits - before.stats.hits)) / asked : null,
    p50: fetched ? stats.fetch_p50_ms : null,
    p95: fetched ? stats.fetch_p95_ms : null,
    p99: fetched ? stats.fetch_p99_ms : null,
    in_flight: sum("in_flight"),
    queue: sum("queue_depth"),
    limit: sum("limit"),
  };
}

/** 1, 2 or 5 times a power of ten, the least that is not below `value`. */
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((times) => times * unit).find((one) => one >= value);
}

export class Charts {
  /** Builds the charts inside `box`. */
  constructor(box) {
    this.points = [];
    this.before = null;
    this.drawn = CHARTS.map((chart) => {
      const now = element("span", "now");
      const most = element("small", "most");
      const empty = element("p", "empty", chart.empty);
      const picture = document.createElementNS(SVG, "svg");
      picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
      picture.setAttribute("preserveAspectRatio", "none");
      picture.setAttribute("role", "img");
      const paths = chart.lines.map(() => picture.appendChild(document.createElementNS(SVG, "path")));
      const caption = element("figcaption", "", element("strong", "", chart.title), now);
      box.append(element("figure", "chart", caption, element("div", "plot", picture, most, empty)));
      return { chart, now, most, empty, picture, paths };
    });
    this._draw(0);
  }

  /** Take over an answer of /api/stats that came at `at_ms`. */
  add(at_ms, stats) {
    this.points.push(pointOf(at_ms, stats, this.before));
    this.before = { at_ms, stats };
    this.points = this.points.filter((point) => point.at_ms > at_ms - KEPT_MS);
    this._draw(at_ms);
  }

  _draw(now_ms) {
    for (const { chart, now, most, empty, picture, paths } of this.drawn) {
      const values = chart.lines.flatMap(([field]) => this.points.map((point) => point[field]).filter((value) => value !== null));
      const none = values.length === 0;
      empty.hidden = !none;
      picture.toggleAttribute("hidden", none);
      most.hidden = none;
      const highest = chart.most ?? roundUp(Math.max(chart.least, ...values));
      most.textContent = chart.write(highest);
      const last = this.points.at(-1);
      const told = chart.lines.map(([field, name], index) => {
        paths[index].setAttribute("d", this._path(field, now_ms, highest));
        const value = last?.[field] ?? null;
        const top = Math.max(...this.points.map((point) => point[field] ?? 0));
        return { name, now: value === null ? "–" : chart.write(value), top: chart.write(top) };
      });
      now.replaceChildren(...told.map((line) => (told.length > 1 ? element("span", "", `${line.name} ${line.now}`) : line.now)));
      const words = told.map((line) => `${line.name} now ${line.now === "–" ? "none" : line.now}, highest ${line.top}`);
      picture.setAttribute("aria-label", `${chart.title}, last 5 minutes: ${words.join("; ")}`);
    }
  }

  _path(field, now_ms, highest) {
    let path = "";
    let last_ms = null;
    for (const point of this.points) {
      if (point[field] === null) {
        last_ms = null;
        continue;
      }
      const x = (WIDTH * (1 - (now_ms - point.at_ms) / KEPT_MS)).toFixed(1);
      const y = (HEIGHT - 1 - (HEIGHT - 2) * (point[field] / highest)).toFixed(1);
      // A line of no length, with round ends, is a dot: a value that stands alone.
      path += last_ms !== null && point.at_ms - last_ms < GAP_MS ? `L${x} ${y}` : `M${x} ${y}h0`;
      last_ms = point.at_ms;
    }
    return path;
  }
}
