// The list of jobs.

import { h, put, say } from "./dom.js";
import * as format from "./format.js";
import { badge, bar, empty, problemBox } from "./notices.js";
import { rest } from "./rest.js";
import { better, isTerminal, keyed, PHASE_TITLES } from "./words.js";

const PAGE_SIZE = 50;
const REFRESH_MS = 2000;
const FRONT_REFRESH_MS = 6000;
const COLUMNS = ["Name", "State", "Progress", "Evaluations", "Best on front", "Front", "Test accuracy", "Time left", "Created"];
const NUMERIC = new Set([3, 4, 5, 6, 7]);

/** The view; gives its element and how to leave it. */
export function jobsView() {
  const list = new JobList();
  list.refresh();
  return { element: list.element, title: "Jobs", destroy: () => list.destroy() };
}

class JobList {
  constructor() {
    this.leaving = new AbortController();
    this.rows = new Map();
    this.fronts = new Map();
    this.pages = 1;
    this.state = "";
    this.body = h("tbody");
    this.notice = h("div", { class: "notice" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.loadMore() }, "Show older jobs");
    this.empty = empty("Loading …");
    const head = COLUMNS.map((title, index) => h("th", { scope: "col", class: NUMERIC.has(index) ? "num" : null }, title));
    this.table = h("table", { class: "jobs" }, h("thead", {}, h("tr", {}, head)), this.body);
    this.table.hidden = true;
    this.element = h(
      "div",
      { class: "view" },
      h("div", { class: "view-head" }, h("h1", {}, "Jobs"), this.filter()),
      this.notice,
      h("div", { class: "card flush scroll-x" }, this.table, this.empty),
      this.more,
    );
    this.onVisible = () => document.hidden || this.refresh();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  filter() {
    const options = ["", "RUNNING", "QUEUED", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"];
    const select = h(
      "select",
      { id: "state-filter", onchange: (event) => this.choose(event.target.value) },
      options.map((state) => h("option", { value: state }, state ? state.charAt(0) + state.slice(1).toLowerCase() : "All")),
    );
    return h("label", { class: "inline" }, "State ", select);
  }

  choose(state) {
    this.state = state;
    this.pages = 1;
    this.rows.clear();
    put(this.body);
    this.refresh();
  }

  loadMore() {
    this.pages += 1;
    this.refresh();
  }

  destroy() {
    this.leaving.abort();
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
  }

  async refresh() {
    clearTimeout(this.timer);
    const state = this.state;
    try {
      const { jobs, next } = await this.load(state);
      if (state !== this.state) return;
      put(this.notice);
      this.more.hidden = !next;
      this.show(jobs);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!error.title) console.error(error);
      put(this.notice, problemBox(error, { retry: () => this.refresh() }));
      if (!this.rows.size) this.empty.hidden = true;
      // The notice holds a form for the token, which a next try would wipe.
      if (error.status === 401) return;
    }
    if (!this.leaving.signal.aborted && !document.hidden) this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  async load(state) {
    const jobs = [];
    let token = null;
    for (let page = 0; page < this.pages; page += 1) {
      const answer = await rest.jobs({ state, page_size: PAGE_SIZE, page_token: token }, this.leaving.signal);
      jobs.push(...answer.items);
      token = answer.next_page_token;
      if (!token) break;
    }
    return { jobs, next: token };
  }

  show(jobs) {
    this.table.hidden = !jobs.length;
    this.empty.hidden = jobs.length > 0;
    if (!jobs.length) put(this.empty, ...(this.state ? noSuch() : howToSubmit()));
    const wanted = new Set(jobs.map((job) => job.job_id));
    for (const [jobId, row] of this.rows) {
      if (!wanted.has(jobId)) {
        row.element.remove();
        this.rows.delete(jobId);
      }
    }
    jobs.forEach((job, index) => {
      const row = this.rows.get(job.job_id) ?? this.addRow(job);
      if (this.body.children[index] !== row.element) this.body.insertBefore(row.element, this.body.children[index] ?? null);
      showJob(row, job, this.fronts.get(job.job_id));
    });
    this.loadFronts(jobs);
  }

  addRow(job) {
    const cells = COLUMNS.map((_, index) => h("td", { class: NUMERIC.has(index) ? "num" : null }));
    const link = h("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}` });
    put(cells[0], link, h("span", { class: "fine" }));
    put(cells[2], h("span", { class: "phase" }), h("span"));
    say(cells[4], "–");
    say(cells[5], "–");
    const row = { element: h("tr", {}, cells), cells, link };
    this.rows.set(job.job_id, row);
    return row;
  }

  /** The fronts of the listed jobs, one after another, and again only while they can have grown. */
  async loadFronts(jobs) {
    if (this.loadingFronts) return;
    this.loadingFronts = true;
    for (const job of jobs) {
      const known = this.fronts.get(job.job_id);
      const isFresh = known && (known.settled || performance.now() - known.at < FRONT_REFRESH_MS);
      if (isFresh || !job.progress.evaluations_done) continue;
      try {
        const { points } = await rest.front(job.job_id, this.leaving.signal);
        const front = { points, at: performance.now(), settled: isTerminal(job.state) };
        this.fronts.set(job.job_id, front);
        const row = this.rows.get(job.job_id);
        if (row) showFront(row, job, front);
      } catch {
        // The list's own requests say what is wrong; a missing number is no second notice.
        break;
      }
    }
    this.loadingFronts = false;
  }
}

function showJob(row, job, front) {
  const { cells, link } = row;
  const { progress } = job;
  say(link, job.name);
  say(cells[0].lastChild, objectivesText(job.objectives));
  if (cells[1].dataset.state !== job.state) {
    cells[1].dataset.state = job.state;
    put(cells[1], badge(job.state));
  }
  const over = job.state === "SUCCEEDED";
  const phase = over ? (job.deliveries.length ? "Delivered" : "Done") : (PHASE_TITLES[progress.phase] ?? "Waiting");
  say(cells[2].firstChild, phase);
  put(cells[2].lastChild, bar(over ? 1 : progress.fraction, `Progress of ${phase}`, { done: isTerminal(job.state) }));
  const total = progress.evaluations_total || job.budget.evaluations;
  say(cells[3], `${format.count(progress.evaluations_done)} / ${format.count(total)}`);
  if (front) showFront(row, job, front);
  const tests = job.deliveries.map((delivery) => delivery.metrics["test_accuracy"] ?? delivery.metrics["test_accuracy@full"]);
  const best = Math.max(...tests.filter((value) => value !== undefined));
  say(cells[6], Number.isFinite(best) ? format.number(best) : "–");
  say(cells[7], isTerminal(job.state) ? "–" : format.duration(progress.seconds_left));
  say(cells[8], format.moment(job.created_at));
}

function showFront(row, job, { points }) {
  const [objective] = keyed(job.objectives);
  const values = points.map((point) => point.values[objective.key]).filter((value) => value !== undefined);
  const best = values.sort((a, b) => better(objective, a, b))[0];
  say(row.cells[4], best === undefined ? "–" : format.number(best));
  row.cells[4].title = `Best ${format.keyLabel(objective.key)} on the front`;
  say(row.cells[5], format.count(points.length));
}

function objectivesText(objectives) {
  return objectives.map(({ metric, direction }) => `${format.words(metric)} ${direction}`).join(", ");
}

function noSuch() {
  return [h("h2", {}, "No job in this state"), h("p", {}, "Choose another state above.")];
}

function howToSubmit() {
  return [
    h("h2", {}, "No jobs yet"),
    h("p", {}, "A job takes a search space, a data set, objectives and a budget. Submit one from a terminal:"),
    h("pre", { tabindex: "0" }, "nas submit examples/digits.yaml --watch"),
    h("p", {}, "or ", h("a", { href: "#/new" }, "write one here"), ". It shows up in this list by itself."),
  ];
}
