/* The seeds that this service runs: how far each is, and a button that ends it. */

import { $, count, element, kilobytes } from "./text.js";

const SHOWN_MAX = 8;
// A browser holds six connections to one service; tiles need theirs.
const STREAMS_MAX = 2;
const UNDER_WAY = ["running", "draining"];

const rows = new Map();
let listed = false;

function wordsOf(job) {
  if (!UNDER_WAY.includes(job.state)) return job.error ? `${job.state}: ${job.error.message}` : job.state.replace("_", " ");
  if (!job.progress) return job.state;
  const { done, absent, dead, skipped, planned, bytes, rate_per_s } = job.progress;
  const ended = done + absent + dead + skipped;
  const lost = dead ? `, ${count(dead)} dead` : "";
  return `${job.state}: ${count(ended)} of ${count(planned)}${lost}, ${count(rate_per_s)}/s, ${kilobytes(bytes)}`;
}

function newRow(job) {
  const name = element("strong", "", `${job.source} → ${job.store}`);
  const words = element("small", "");
  const bar = element("progress", "");
  bar.setAttribute("aria-label", `${job.store}, tiles that have ended`);
  const button = element("button", "", "End");
  button.type = "button";
  button.setAttribute("aria-label", `End ${job.store}`);
  const row = { job, words, bar, button, stream: null, box: element("li", "", name, button, bar, words) };
  button.addEventListener("click", async () => {
    // Once in good order, again at once.
    const answer = await fetch(`/api/jobs/${row.job.id}`, { method: "DELETE" }).catch(() => null);
    if (answer?.ok) draw(row, await answer.json());
  });
  return row;
}

function draw(row, job) {
  row.job = job;
  const under = UNDER_WAY.includes(job.state);
  row.words.textContent = wordsOf(job);
  row.words.classList.toggle("bad", ["failed", "stopped"].includes(job.state));
  row.button.hidden = !under;
  row.button.textContent = job.state === "draining" ? "End at once" : "End";
  row.bar.hidden = !under;
  if (job.progress) {
    row.bar.max = Math.max(1, job.progress.planned);
    row.bar.value = job.progress.done + job.progress.absent + job.progress.dead + job.progress.skipped;
  }
  if (!under) row.stream?.close();
  if (!under) row.stream = null;
}

function followed(row) {
  const stream = new EventSource(row.job.events);
  stream.addEventListener("status", (event) => {
    const told = JSON.parse(event.data);
    if (told.event === "job.progress") draw(row, { ...row.job, progress: told });
  });
  for (const end of ["complete", "error"]) {
    stream.addEventListener(end, (event) => {
      // The browser's own "error", a stream that broke, has no data; it comes back by itself.
      if (event.data === undefined) return;
      const told = JSON.parse(event.data);
      draw(row, { ...row.job, state: told.state, error: told.error });
    });
  }
  return stream;
}

async function list() {
  const answer = await fetch("/api/jobs", { cache: "no-store" });
  if (!answer.ok) return;
  const jobs = (await answer.json()).jobs.slice(-SHOWN_MAX).reverse();
  for (const [id, row] of rows) {
    if (jobs.some((job) => job.id === id)) continue;
    row.stream?.close();
    rows.delete(id);
  }
  for (const job of jobs) {
    if (!rows.has(job.id)) rows.set(job.id, newRow(job));
    draw(rows.get(job.id), job);
  }
  const streams = () => [...rows.values()].filter((row) => row.stream).length;
  for (const row of rows.values()) {
    if (UNDER_WAY.includes(row.job.state) && !row.stream && streams() < STREAMS_MAX) row.stream = followed(row);
  }
  $("jobs").replaceChildren(...jobs.map((job) => rows.get(job.id).box));
  $("jobs_box").hidden = jobs.length === 0;
  listed = true;
}

/** Take over what /api/stats says of jobs: null where there are none, or where a key is wanted. */
export async function showJobs(told) {
  if (!told || told.key) return;
  const under = [...rows.values()].filter((row) => UNDER_WAY.includes(row.job.state));
  // Those that are followed tell of themselves.
  if (!listed || told.running !== under.length || under.some((row) => !row.stream)) await list();
}
