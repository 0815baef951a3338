// The top of a job's page: what it is, where it stands, what it spends, and the verbs that are legal now.

import { h, put, say } from "./dom.js";
import * as format from "./format.js";
import { badge, bar, problemBox, violationTable } from "./notices.js";
import { hasPhase, isTerminal, legalVerbs, PHASES, PHASE_TITLES, VERBS } from "./words.js";

const TILES = ["Evaluations", "Front", "Hypervolume", "Epochs", "Audited", "Delivered", "Infeasible", "Failed", "Time spent", "Time left"];
const TILES_OF = { Epochs: "SUPERNET", Audited: "AUDIT", Delivered: "DELIVER" };

export class JobHead {
  constructor({ onVerb }) {
    this.onVerb = onVerb;
    this.name = h("h1");
    this.state = h("span", { role: "status" });
    this.verbs = h("div", { class: "buttons" });
    this.facts = h("p", { class: "fine chips" });
    this.reason = h("div", { class: "reason", hidden: true });
    this.notice = h("div");
    this.leftOut = h("ul", { class: "notes", "aria-label": "What the time of the job made it leave out", hidden: true });
    this.steps = new Map(PHASES.map((phase) => [phase, step(phase)]));
    this.message = h("p", { class: "fine message" }, "\u00a0");
    this.tiles = new Map(TILES.map((title) => [title, tile(title)]));
    this.dialog = this.confirmation();
    this.element = h(
      "section",
      { class: "card job-head", "aria-label": "Job" },
      h("div", { class: "title-line" }, this.name, this.state, this.verbs),
      this.facts,
      this.reason,
      this.notice,
      this.leftOut,
      h("ol", { class: "stepper", "aria-label": "Phases" }, [...this.steps.values()].map(({ element }) => element)),
      this.message,
      h("dl", { class: "tiles" }, [...this.tiles.values()].map(({ element }) => element)),
      this.dialog,
    );
  }

  confirmation() {
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", {}, "Cancel this job?"),
      h("p", {}, "It ends now and delivers nothing. What was measured stays. To end the search but still get models, use Stop and deliver."),
      h("div", { class: "buttons" }, h("button", { value: "keep", autofocus: true }, "Keep running"), h("button", { value: "cancel", class: "danger" }, "Cancel the job")),
    );
    const dialog = h("dialog", { "aria-label": "Confirm" }, form);
    dialog.addEventListener("close", () => dialog.returnValue === "cancel" && this.act("cancel"));
    return dialog;
  }

  ask(verb) {
    if (verb !== "cancel") return this.act(verb);
    this.dialog.returnValue = "";
    return this.dialog.showModal();
  }

  async act(verb) {
    put(this.notice);
    for (const button of this.verbs.children) button.disabled = true;
    try {
      await this.onVerb(verb);
    } catch (error) {
      put(this.notice, problemBox(error));
    } finally {
      for (const button of this.verbs.children) button.disabled = false;
    }
  }

  update(job, front) {
    const { progress } = job;
    say(this.name, job.name);
    this.updateState(job);
    say(this.facts, factsText(job));
    this.reason.hidden = !job.reason;
    this.reason.className = job.state === "FAILED" ? "reason bad" : "reason";
    if (!job.violations.length) say(this.reason, job.reason ?? "");
    else if (!this.reason.firstElementChild) put(this.reason, violationTable(job.violations));
    this.updateLeftOut(job.plan?.notes ?? []);
    this.updateSteps(job);
    say(this.message, progress.message || "\u00a0");
    this.updateTiles(job, front);
  }

  updateLeftOut(notes) {
    if (this.leftOut.children.length === notes.length) return;
    this.leftOut.hidden = !notes.length;
    put(this.leftOut, notes.map((note) => h("li", {}, note)));
  }

  updateState({ state }) {
    if (this.shownState === state) return;
    this.shownState = state;
    put(this.state, badge(state));
    const button = (verb) =>
      h("button", { type: "button", class: verb === "cancel" ? "danger" : null, title: VERBS[verb].hint, "data-verb": verb, onclick: () => this.ask(verb) }, VERBS[verb].title);
    put(this.verbs, legalVerbs(state).map(button));
    if (isTerminal(state) && this.dialog.open) this.dialog.close();
  }

  updateSteps(job) {
    const { state, progress } = job;
    const at = PHASES.indexOf(progress.phase);
    PHASES.forEach((phase, index) => {
      const { element, meter, note } = this.steps.get(phase);
      element.hidden = !hasPhase(phase, job);
      const isDone = state === "SUCCEEDED" || index < at;
      const isHere = !isDone && index === at;
      const stopped = isHere && isTerminal(state);
      element.className = isDone ? "done" : stopped ? "broken" : isHere ? "here" : "";
      if (isHere) element.setAttribute("aria-current", "step");
      else element.removeAttribute("aria-current");
      const fraction = isDone ? 1 : isHere ? progress.fraction : 0;
      meter.firstChild.style.inlineSize = `${(100 * fraction).toFixed(1)}%`;
      meter.setAttribute("aria-valuenow", Math.round(100 * fraction));
      say(note, isDone ? "done" : stopped ? "ended here" : isHere ? format.percent(progress.fraction) : "\u00a0");
    });
  }

  updateTiles(job, front) {
    const { state, progress, spent, budget } = job;
    for (const [title, phase] of Object.entries(TILES_OF)) this.tiles.get(title).element.hidden = !hasPhase(phase, job);
    const of = (done, total) => (total ? `${format.count(done)} / ${format.count(total)}` : format.count(done));
    const set = (title, text) => say(this.tiles.get(title).value, text);
    set("Evaluations", of(progress.evaluations_done, progress.evaluations_total || budget.evaluations));
    const leftOut = Object.values(front?.leftOut ?? {}).reduce((sum, number) => sum + number, 0);
    const others = leftOut ? `, ${format.count(leftOut)} left out` : "";
    set("Front", front ? `${format.counted(front.size, "point")}${others}` : "–");
    this.tiles.get("Front").element.title = leftOut ? "Values measured in another context cannot be compared: see the log." : "";
    set("Hypervolume", front ? format.number(front.hypervolume) : "–");
    set("Epochs", of(progress.epochs_done, progress.epochs_total));
    set("Audited", of(progress.audited, progress.audits_total));
    set("Delivered", of(progress.delivered, progress.deliveries_total));
    set("Infeasible", format.count(progress.infeasible));
    set("Failed", format.count(progress.failures));
    set("Time spent", format.stopwatch(spent.wall_seconds) + (budget.wall_time ? ` / ${format.stopwatch(budget.wall_time)}` : ""));
    this.expect(state, progress.seconds_left);
  }

  /** Count down from the newest estimate, since none comes while one long piece of work goes on. */
  expect(state, seconds) {
    if (this.expected?.seconds !== seconds || this.expected?.state !== state) this.expected = { state, seconds, at: performance.now() };
    clearInterval(this.clock);
    const tell = () => say(this.tiles.get("Time left").value, timeLeft(this.expected));
    tell();
    if (!isTerminal(state)) this.clock = setInterval(() => (this.element.isConnected ? tell() : clearInterval(this.clock)), 1000);
  }
}

function timeLeft({ state, seconds, at }) {
  if (isTerminal(state)) return "–";
  if (state === "PAUSED") return "paused";
  if (seconds === null || seconds === undefined) return "not known yet";
  const left = seconds - (performance.now() - at) / 1000;
  return left > 0 ? `about ${format.duration(Math.max(1, left))}` : "longer than expected";
}

function factsText({ job_id: jobId, objectives, spec, spent, supernet, created_at: created, labels }) {
  const name = (part) => (typeof part === "string" ? part : part?.name);
  return [
    objectives.map(({ metric, direction }) => `${format.words(metric)} ${direction}`).join(", "),
    ...(spec?.constraints ?? []),
    spec && `space ${name(spec.space)}`,
    spec?.dataset && `data ${name(spec.dataset)}`,
    spec && `searcher ${name(spec.searcher)}`,
    spec?.dataset && spec.supernet && (spec.supernet.from ? `supernet of ${spec.supernet.from}` : `recipe ${name(spec.supernet.recipe)}`),
    supernet && originText(supernet),
    ...Object.entries(labels ?? {}).map(([key, value]) => `${key}: ${value}`),
    `created ${format.moment(created)}`,
    spent.queued_seconds >= 1 && `waited ${format.duration(spent.queued_seconds)} for a worker`,
    jobId,
  ]
    .filter(Boolean)
    .join("  ·  ");
}

function step(phase) {
  const meter = bar(0, PHASE_TITLES[phase]);
  const note = h("span", { class: "fine" }, "\u00a0");
  return { meter, note, element: h("li", {}, h("span", { class: "step-title" }, PHASE_TITLES[phase]), meter, note) };
}

function tile(title) {
  const value = h("dd", {}, "–");
  return { value, element: h("div", { class: "tile", "data-tile": title }, h("dt", {}, title), value) };
}

/** Where the shared weights come from: which job, when, and by which torch where that is another than here. */
function originText({ job_id: jobId, taken_over: isTakenOver, trained_at: at, torch, torch_here: here, epochs }) {
  const now = here && torch && here !== torch ? `, now ${here}` : "";
  const when = [at && format.moment(at), torch && `torch ${torch}${now}`].filter(Boolean).join(", ");
  const what = isTakenOver ? `supernet taken over from ${jobId}` : "supernet trained here";
  return `${what}: ${format.count(epochs)} epochs${when ? ` (${when})` : ""}`;
}
