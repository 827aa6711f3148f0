/* Numbers and other people's words, as the page writes them. */

export const $ = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (value < 100000 ? whole.format(value) : short.format(value));
export const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : value < 10000 ? `${whole.format(value)} ms` : `${(value / 1000).toFixed(1)} s`);
export const percent = (value) => `${value.toFixed(value < 99.95 ? 1 : 0)} %`;
export const seconds = (value) => (value < 120 ? `${whole.format(value)} s` : value < 7200 ? `${whole.format(value / 60)} min` : value < 172800 ? `${whole.format(value / 3600)} h` : `${whole.format(value / 86400)} days`);

export function kilobytes(value) {
  if (value === 0) return "0 kB";
  const [unit, name] = value < 1e6 ? [1e3, "kB"] : value < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${(value / unit).toFixed(value < 10 * unit ? 1 : 0)} ${name}`;
}

/** An element with a class and text or children. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Attributions come from elsewhere: only their text and their links to the web are taken over. */
export function attributionNodes(text) {
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
