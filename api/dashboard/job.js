// One job, live.

import { CandidateTable } from "./candidates.js";
import { choiceReport } from "./choice.js";
import { h, put, say, section, throttled } from "./dom.js";
import { JobCharts } from "./job_charts.js";
import { JobHead } from "./job_head.js";
import { follow } from "./live.js";
import { eventLog } from "./log.js";
import { empty, problemBox } from "./notices.js";
import { delivery, preflightReport, trustReport } from "./reports.js";
import { query, rest } from "./rest.js";
import { SelectedPanel } from "./selected.js";
import { hasPhase, keyed } from "./words.js";

const REFRESH_MS = 1000;

/** The view of one job; gives its element, how to leave it, and how to come back with another selection. */
export function jobView(jobId, values) {
  const page = new JobPage(jobId, values.get("candidate"));
  page.open();
  return page;
}

class JobPage {
  constructor(jobId, candidate) {
    this.jobId = jobId;
    this.wanted = candidate;
    this.title = "Job";
    this.leaving = new AbortController();
    this.element = h("div", { class: "view job" }, empty("Loading …"));
    this.front = null;
    this.connection = document.querySelector(".connection");
    this.jobSoon = throttled(REFRESH_MS, () => this.readJob());
    this.frontSoon = throttled(REFRESH_MS, () => this.readFront());
  }

  destroy() {
    this.leaving.abort();
    this.unfollow?.();
    this.jobSoon.cancel();
    this.frontSoon.cancel();
    for (const part of [this.charts, this.table, this.selected, this.log]) part?.destroy();
    put(this.connection);
  }

  async open() {
    try {
      const job = await rest.job(this.jobId, this.leaving.signal);
      this.build(job);
      this.update(job);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!error.title) console.error(error);
      const back = h("p", {}, h("a", { href: "#/jobs" }, "All jobs"));
      put(this.element, problemBox(error, { retry: () => this.open() }), back);
      return;
    }
    this.readFront();
    this.unfollow = follow(this.jobId, 0, {
      onEvent: (type, data, sequence, at) => this.happened(type, data, sequence, at),
      onProgress: (job) => this.update({ ...job, spec: this.job.spec }),
      onEnd: (last) => this.ended(last),
      onConnection: (isUp) => this.connected(isUp),
    });
    if (this.wanted) this.select(this.wanted);
  }

  build(job) {
    const objectives = keyed(job.objectives);
    const step = (way) => this.step(way);
    const select = (digest) => this.select(digest);
    this.head = new JobHead({ onVerb: (verb) => this.act(verb) });
    const trains = Boolean(job.spec.dataset); // without data nothing is trained, and nothing exported
    this.charts = new JobCharts(this.jobId, { objectives, trains: trains && hasPhase("SUPERNET", job), onSelect: select, onStep: step });
    this.selected = new SelectedPanel(this.jobId, { trains, onStep: step, onCandidate: (candidate) => this.showCandidate(candidate) });
    this.table = new CandidateTable(this.jobId, { objectives, onSelect: select, onKeys: (keys) => this.charts.setKeys(keys) });
    this.log = eventLog();
    this.reports = h("div", { class: "columns" });
    const spec = h("pre", { tabindex: "0" }, JSON.stringify(job.spec, null, 2));
    this.spec = h("details", { class: "card" }, h("summary", {}, "Specification"), spec);
    put(
      this.element,
      this.head.element,
      h("div", { class: "split main" }, this.charts.element, this.selected.element),
      this.reports,
      this.table.element,
      this.log.element,
      this.spec,
    );
  }

  update(job) {
    this.job = job;
    this.title = job.name;
    document.title = `${job.name} · Architecture search`;
    this.head.update(job, this.front);
    this.table.known(job.progress.evaluations_done);
    this.showReports(job);
  }

  showReports(job) {
    const { preflight, trust, choice, deliveries, progress } = job;
    const shown = JSON.stringify([preflight, trust, choice, deliveries, progress.audits_total, progress.deliveries_total]);
    if (shown === this.shownReports) return;
    this.shownReports = shown;
    const trained = deliveries.filter(({ weights }) => weights === "trained").map(({ digest }) => digest);
    this.selected.exports.delivered(trained, { inherits: hasPhase("SUPERNET", job) });
    const models = deliveries.map((given) => delivery(given, { onSelect: (digest) => this.select(digest) }));
    const early = waiting("Models appear here when the job delivers them. Any candidate can be exported before that.");
    put(
      this.reports,
      choice ? section("Chosen", { id: "choice" }, choiceReport(choice, { winners: trained, onSelect: (digest) => this.select(digest) })) : null,
      models.length || hasPhase("DELIVER", job) ? section("Delivered models", { id: "deliveries" }, models.length ? models : early) : null,
      trust || hasPhase("AUDIT", job) ? this.trust(trust) : null,
      section("Preflight", { id: "preflight" }, preflight ? preflightReport(preflight) : waiting("What the job will meet is known after preflight.")),
    );
  }

  /** The report that the audit left or, before there is one, a way to have it worked out from what is there already. */
  trust(report) {
    const box = section("Trust", { id: "trust" });
    const ask = async () => {
      try {
        put(box.lastElementChild, trustReport(await rest.trust(this.jobId, this.leaving.signal)));
      } catch (error) {
        this.failed(error);
      }
    };
    const text = "How far the ranking can be trusted is known after the audit.";
    const early = [waiting(text), h("p", {}, h("button", { type: "button", onclick: ask }, "Work it out now"))];
    box.append(h("div", {}, report ? trustReport(report) : early));
    return box;
  }

  happened(type, data, sequence, at) {
    this.log.add(type, data, sequence, at);
    if (type === "evaluations" || type === "front") {
      if (type === "evaluations") this.front = { ...this.front, size: data.front_size, hypervolume: data.hypervolume };
      this.charts.outdated("pareto", "hypervolume");
      this.table.changed();
      this.frontSoon();
    } else if (type === "epoch") this.charts.outdated("training", "paths");
    else if (type === "audit") {
      this.charts.outdated("pareto");
      this.table.changed();
      if (data.digest === this.selected.digest) this.selected.refresh();
    } else if (type === "job.state" || type === "trust" || type === "choice" || type === "delivery") this.jobSoon();
  }

  async readJob() {
    try {
      this.update(await rest.job(this.jobId, this.leaving.signal));
    } catch (error) {
      this.failed(error);
    }
  }

  async readFront() {
    try {
      const { points, hypervolume, left_out: leftOut } = await rest.front(this.jobId, this.leaving.signal);
      this.front = { size: points.length, hypervolume, points, leftOut };
      this.head.update(this.job, this.front);
      this.table.addKeys([...new Set(points.flatMap(({ values }) => Object.keys(values)))]);
    } catch (error) {
      this.failed(error);
    }
  }

  async act(verb) {
    const job = await rest.verb(this.jobId, verb);
    this.update({ ...job, spec: this.job.spec });
  }

  select(digest) {
    this.selected.select(digest);
    this.table.mark(digest);
    history.replaceState(null, "", `#/jobs/${encodeURIComponent(this.jobId)}${query({ candidate: digest })}`);
  }

  /** The address changed inside this job, by a link or the browser's history. */
  revisit(values) {
    if (this.selected) this.select(values.get("candidate"));
  }

  showCandidate(candidate) {
    this.candidate = candidate;
    this.charts.mark(candidate);
    this.table.addKeys(Object.keys(candidate.values));
  }

  /** Go along the front, in the order in which it is drawn from left to right. */
  step(way) {
    const { x, y } = this.charts.axes;
    const across = ({ values, number }) => (x === "number" ? number : values[x]);
    const points = (this.front?.points ?? []).filter((point) => across(point) !== undefined && point.values[y] !== undefined);
    if (!points.length) return;
    points.sort((a, b) => across(a) - across(b) || a.values[y] - b.values[y]);
    const at = points.findIndex(({ digest }) => digest === this.selected.digest);
    const next = at < 0 ? (way > 0 ? 0 : points.length - 1) : (at + way + points.length) % points.length;
    this.select(points[next].digest);
  }

  connected(isUp) {
    say(this.connection, isUp ? "" : "Connection lost; trying again …");
    if (isUp) this.charts.catchUp();
  }

  failed(error) {
    // A lost connection is said by the event stream, which also knows when it is back.
    if (error.name === "AbortError" || error.isOffline) return;
    if (!error.title) console.error(error);
    say(this.connection, error.detail || error.title || String(error));
  }

  ended({ state, reason }) {
    this.connected(true);
    if (!state) {
      say(this.connection, `This job is gone: ${reason}.`);
      return;
    }
    this.readJob();
    this.readFront();
    this.charts.outdated("pareto", "hypervolume", "training", "paths");
    this.table.changed();
  }
}

function waiting(text) {
  return h("p", { class: "fine" }, text);
}
