// Exports of the selected candidate: asked for, watched until done, downloaded.

import { h, put, say } from "./dom.js";
import { problemBox } from "./notices.js";
import { delivery, formatName } from "./reports.js";
import { rest } from "./rest.js";

const POLL_MS = 1500;
const FORMATS = ["onnx", "torch_export", "pytorch"];
const IN_WORDS = { QUEUED: "waits for a worker", RUNNING: "under way", SUCCEEDED: "done", FAILED: "failed" };

export class ExportPart {
  constructor(jobId) {
    this.jobId = jobId;
    this.digest = null;
    this.exports = new Map();
    const format = (name) =>
      h("label", { class: "inline" }, h("input", { type: "checkbox", name: "format", value: name, checked: name === "onnx" }), ` ${formatName(name)}`);
    const weights = (value, title) => h("label", { class: "inline" }, h("input", { type: "radio", name: "weights", value }), title);
    this.trained = new Set();
    this.inherits = true;
    this.trainedTitle = h("span");
    this.button = h("button", { type: "submit", class: "primary" }, "Export");
    this.form = h(
      "form",
      { class: "export-form" },
      h("fieldset", {}, h("legend", {}, "Format"), FORMATS.map(format)),
      h("fieldset", {}, h("legend", {}, "Weights"), weights("inherited", "inherited, at once"), weights("trained", this.trainedTitle)),
      this.button,
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.form.addEventListener("change", () => {
      this.button.disabled = !this.form.querySelector("[name=format]:checked");
    });
    this.notice = h("div");
    this.list = h("div", { class: "exports", "aria-live": "polite" });
    this.element = h("div", { class: "export" }, h("h3", {}, "Export"), this.form, this.notice, this.list);
  }

  destroy() {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  /** These candidates have their own trained weights already; and whether there are weights to inherit. */
  delivered(digests, { inherits }) {
    this.trained = new Set(digests);
    this.inherits = inherits;
    const choice = this.form.querySelector("[name=weights][value=inherited]");
    choice.parentElement.hidden = !inherits;
    const wanted = this.offer();
    if (!inherits) this.form.elements.weights.value = wanted;
  }

  offer() {
    const isTrained = this.trained.has(this.digest);
    say(this.trainedTitle, isTrained ? "trained, at once" : "trained first");
    return isTrained || !this.inherits ? "trained" : "inherited";
  }

  /** Show the exports of this candidate. */
  show(digest) {
    if (digest === this.digest) return;
    this.digest = digest;
    this.form.elements.weights.value = this.offer();
    put(this.notice);
    this.draw();
    this.poll();
  }

  async submit() {
    const chosen = new FormData(this.form);
    const wanted = { candidate: this.digest, formats: chosen.getAll("format"), weights: chosen.get("weights") };
    this.button.disabled = true;
    put(this.notice);
    try {
      const made = await rest.export(this.jobId, wanted);
      this.exports.set(made.export_id, made);
      this.draw();
      this.poll();
    } catch (error) {
      put(this.notice, problemBox(error));
    } finally {
      this.button.disabled = false;
    }
  }

  /** Read the job's exports, and again as long as one of this candidate is under way. */
  async poll() {
    clearTimeout(this.timer);
    try {
      const { items } = await rest.exports(this.jobId);
      for (const item of items) this.exports.set(item.export_id, item);
      this.draw();
    } catch (error) {
      if (!error.isOffline) {
        put(this.notice, problemBox(error, { retry: () => this.poll() }));
        return;
      }
    }
    const isWaiting = this.own().some(({ state }) => state === "QUEUED" || state === "RUNNING");
    if (isWaiting && !this.isOver) this.timer = setTimeout(() => this.poll(), POLL_MS);
  }

  own() {
    return [...this.exports.values()].filter(({ digest }) => digest === this.digest).reverse();
  }

  draw() {
    const shown = JSON.stringify(this.own());
    if (this.shown === shown) return;
    this.shown = shown;
    put(this.list, this.own().map(exportRow));
  }
}

function exportRow(given) {
  const formats = given.formats.map(formatName).join(", ");
  return h(
    "div",
    { class: `export-row ${given.state.toLowerCase()}` },
    h("p", {}, h("strong", {}, formats), `, weights ${given.weights}: `, h("span", { class: "state" }, IN_WORDS[given.state] ?? given.state)),
    given.error ? h("p", { class: "failure" }, given.error) : null,
    given.delivery ? delivery(given.delivery) : null,
  );
}
