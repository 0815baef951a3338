// The candidate that the reader chose: its graph, its text, everything measured of it, and its export.

import { chart } from "./charts.js";
import { h, put, say } from "./dom.js";
import { ExportPart } from "./exports.js";
import * as format from "./format.js";
import { empty, problemBox } from "./notices.js";
import { rest } from "./rest.js";

export class SelectedPanel {
  constructor(jobId, { trains, onStep, onCandidate }) {
    Object.assign(this, { jobId, trains, onCandidate });
    this.digest = null;
    this.hint = empty(
      h("h2", {}, "No candidate selected"),
      h("p", {}, "Click a point of the front or a row of the table. With the chart in focus, the left and right arrow keys go along the front."),
    );
    this.title = h("h2", { id: "selected-title" });
    this.tags = h("span", { class: "tags" });
    const step = (way, title, sign) =>
      h("button", { type: "button", class: "icon", title, "aria-label": title, onclick: () => onStep(way) }, sign);
    this.steps = h("span", { class: "steps" }, step(-1, "Previous point of the front", "‹"), step(1, "Next point of the front", "›"));
    this.drawing = chart({ label: "Graph of the architecture", className: "chart drawing" });
    this.text = h("code", { class: "arch-text" });
    this.copy = h("button", { type: "button", class: "link", onclick: () => this.copyText() }, "Copy");
    this.measured = h("div", { class: "measured" });
    this.exports = new ExportPart(jobId);
    this.notice = h("div");
    this.body = h(
      "div",
      { class: "selected-body", hidden: true },
      h("div", { class: "card-head" }, this.title, this.tags, this.steps),
      this.drawing.element,
      h("p", { class: "text-line" }, this.text, this.copy),
      this.measured,
      trains ? this.exports.element : null,
    );
    this.element = h("section", { class: "card selected", id: "selected", "aria-label": "Selected candidate" }, this.hint, this.notice, this.body);
  }

  destroy() {
    this.loading?.abort();
    this.drawing.destroy();
    this.exports.destroy();
  }

  /** Show a candidate; null shows how to choose one. */
  async select(digest) {
    if (digest === this.digest) return;
    this.digest = digest;
    this.loading?.abort();
    put(this.notice);
    this.hint.hidden = digest !== null;
    this.body.hidden = digest === null;
    if (digest === null) return;
    say(this.title, "Candidate");
    this.drawing.fail("Loading …");
    await this.load({ withDrawing: true });
  }

  /** Read the candidate again, because something was measured. */
  async refresh() {
    if (this.digest) await this.load({ withDrawing: false });
  }

  async load({ withDrawing }) {
    const { digest } = this;
    this.loading?.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    try {
      const candidate = await rest.candidate(this.jobId, digest, signal);
      this.show(candidate);
      this.onCandidate(candidate);
      if (withDrawing || !this.isDrawn) await this.draw(digest, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.body.hidden = true;
      put(this.notice, problemBox(error, { retry: () => this.retry() }));
    }
  }

  retry() {
    put(this.notice);
    this.body.hidden = false;
    this.load({ withDrawing: true });
  }

  async draw(digest, signal) {
    this.isDrawn = false;
    try {
      await this.drawing.show(await rest.drawing(this.jobId, digest, signal), { view: digest });
      this.isDrawn = true;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.drawing.fail(`${error.title ?? "No drawing"}: ${error.detail ?? error.message}`);
    }
  }

  show({ digest, number, text, on_front: onFront, feasible, evaluations }) {
    say(this.title, `Candidate ${format.count(number)}`);
    this.title.title = `digest ${digest}`;
    put(
      this.tags,
      onFront ? h("span", { class: "tag front" }, "on the front") : null,
      feasible ? null : h("span", { class: "tag" }, "outside the constraints"),
    );
    say(this.text, text);
    put(this.measured, measurementTable(evaluations), failures(evaluations));
    if (this.trains) this.exports.show(digest);
  }

  async copyText() {
    try {
      await navigator.clipboard.writeText(this.text.textContent);
      say(this.copy, "Copied");
    } catch {
      getSelection().selectAllChildren(this.text);
      say(this.copy, "Selected");
    }
    setTimeout(() => say(this.copy, "Copy"), 1500);
  }
}

function measurementTable(evaluations) {
  // A cost is told with every evaluation: what says the same is shown once.
  const told = new Map(evaluations.flatMap(({ measurements }) => measurements.map((measurement) => [JSON.stringify(measurement), measurement])));
  const rows = [...told.values()].map((measurement) => measurementRow(measurement));
  if (!rows.length) return h("p", { class: "fine" }, "Nothing has been measured yet.");
  const titles = ["Metric", "Value", "Level", "Context"];
  const head = h("tr", {}, titles.map((title, index) => h("th", { scope: "col", class: index === 1 ? "num" : null }, title)));
  return h("div", { class: "scroll-x" }, h("table", { class: "plain measurements" }, h("thead", {}, head), h("tbody", {}, rows)));
}

function measurementRow({ metric, value, unit, std, fidelity, context }) {
  const { name, unit: ending } = format.titled(metric);
  const spread = std === null || std === undefined ? null : h("span", { class: "unit" }, ` ± ${format.number(std)}`);
  const shown = unit || ending;
  const resources = Object.entries(fidelity.resources ?? {}).map(([key, amount]) => `${format.words(key)} ${format.number(amount)}`);
  const facts = Object.entries(context ?? {}).map(([key, fact]) => `${format.words(key)} ${fact}`);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, name),
    h("td", { class: "num", title: format.exact(value) }, format.number(value), spread, shown ? h("span", { class: "unit" }, ` ${shown}`) : null),
    h("td", {}, fidelity.level, resources.length ? h("span", { class: "fine" }, ` ${resources.join(", ")}`) : null),
    h("td", { class: "fine context" }, facts.join(" · ") || "–"),
  );
}

function failures(evaluations) {
  const failed = evaluations.filter(({ error }) => error);
  return failed.map(({ state, error, proposal }) =>
    h("p", { class: "failure" }, `${state.toLowerCase()} at ${proposal.fidelity.level}: ${error}`),
  );
}
