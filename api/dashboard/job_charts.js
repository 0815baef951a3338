// A job's charts in tabs: the front, the hypervolume, the supernet's training and its paths.

import { chart } from "./charts.js";
import { h, put, throttled } from "./dom.js";
import * as format from "./format.js";
import { rest } from "./rest.js";

const REFRESH_MS = 1000;
const TABS = {
  pareto: ["Pareto front", "Candidates over two metrics; the front is highlighted. Click a point to see it."],
  hypervolume: ["Hypervolume", "Hypervolume of the front over the evaluations."],
  training: ["Training", "Loss of the supernet, gradient noise with its error, and speed, over the epochs."],
  paths: ["Paths", "How often each option of each decision was trained, over the epochs."],
};
const OF_TRAINING = ["training", "paths"];

export class JobCharts {
  constructor(jobId, { objectives, trains, onSelect, onStep }) {
    this.jobId = jobId;
    this.leaving = new AbortController();
    this.stale = new Set(Object.keys(TABS));
    this.defaults = { y: objectives[0].key, x: objectives[1]?.key ?? "number" };
    this.axes = { ...this.defaults };
    this.missed = new Set();
    this.charts = new Map();
    this.panels = new Map();
    this.tabs = new Map();
    for (const [name, [title, label]] of Object.entries(TABS)) if (trains || !OF_TRAINING.includes(name)) this.add(name, title, label, onSelect);
    this.pickers = h("div", { class: "pickers" });
    this.setKeys(objectives.map(({ key }) => key));
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Charts" }, [...this.tabs.values()]);
    list.addEventListener("keydown", (event) => this.moveTab(event));
    const pareto = this.panels.get("pareto");
    pareto.tabIndex = 0;
    pareto.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      onStep(way);
    });
    this.element = h("section", { class: "card charts", "aria-label": "Charts" }, h("div", { class: "card-head" }, list, this.pickers), [...this.panels.values()]);
    this.loadSoon = throttled(REFRESH_MS, () => this.load());
    this.onVisible = () => document.hidden || this.loadSoon();
    document.addEventListener("visibilitychange", this.onVisible);
    this.open("pareto");
  }

  add(name, title, label, onSelect) {
    const id = `chart-${name}`;
    const drawing = chart({ label, onSelect: name === "pareto" ? onSelect : null });
    this.charts.set(name, drawing);
    this.panels.set(name, h("div", { role: "tabpanel", id, "aria-label": title }, drawing.element));
    this.tabs.set(name, h("button", { type: "button", role: "tab", "aria-controls": id, "data-tab": name, onclick: () => this.open(name) }, title));
  }

  destroy() {
    this.leaving.abort();
    this.loadSoon.cancel();
    document.removeEventListener("visibilitychange", this.onVisible);
    for (const drawing of this.charts.values()) drawing.destroy();
  }

  open(name) {
    this.shown = name;
    for (const [other, tab] of this.tabs) {
      const isShown = other === name;
      tab.setAttribute("aria-selected", isShown);
      tab.tabIndex = isShown ? 0 : -1;
      this.panels.get(other).hidden = !isShown;
    }
    this.pickers.hidden = name !== "pareto";
    this.load();
  }

  moveTab(event) {
    const names = [...this.tabs.keys()];
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const name = names[(names.indexOf(this.shown) + way + names.length) % names.length];
    this.open(name);
    this.tabs.get(name).focus();
  }

  /** Offer these `metric@level` keys as axes. */
  setKeys(keys) {
    this.keys = keys;
    // A list that is open must not be replaced under the reader's pointer.
    if (this.pickers.contains(document.activeElement)) {
      this.pickers.onfocusout = () => setTimeout(() => this.setKeys(this.keys));
      return;
    }
    this.pickers.onfocusout = null;
    const picker = (axis, title, offered) => {
      const options = offered.map((key) => {
        const option = h("option", { value: key }, key === "number" ? "order of proposal" : format.keyLabel(key));
        option.selected = key === this.axes[axis];
        return option;
      });
      return h("label", { class: "inline" }, `${title} `, h("select", { "data-axis": axis, onchange: (event) => this.choose(axis, event.target.value) }, options));
    };
    put(this.pickers, picker("x", "Across", [...keys, "number"]), picker("y", "Up", keys));
  }

  choose(axis, key) {
    this.axes = { ...this.axes, [axis]: key };
    this.stale.add("pareto");
    this.loadSoon();
  }

  /** These figures have something new; the one in sight is read again, at most once a second. */
  outdated(...names) {
    for (const name of names) this.stale.add(name);
    this.loadSoon();
  }

  /** The service answers again: read what could not be read meanwhile. */
  catchUp() {
    this.outdated(...this.missed);
    this.missed.clear();
  }

  /** Ring the selected candidate, where it has a value on both axes. */
  mark(candidate) {
    this.candidate = candidate;
    this.charts.get("pareto").mark(this.place());
  }

  place() {
    const { values, number } = this.candidate ?? {};
    if (!values) return null;
    const x = this.axes.x === "number" ? number : values[this.axes.x];
    const y = values[this.axes.y];
    return x === undefined || y === undefined ? null : { x, y };
  }

  async load() {
    const name = this.shown;
    if (!this.stale.has(name) || this.isLoading || document.hidden) return;
    this.stale.delete(name);
    this.isLoading = true;
    const isDefault = this.axes.x === this.defaults.x && this.axes.y === this.defaults.y;
    const axes = name === "pareto" && !isDefault ? this.axes : {};
    const drawing = this.charts.get(name);
    try {
      const figure = await rest.figure(this.jobId, name, axes, this.leaving.signal);
      await drawing.show(figure, { selected: name === "pareto" ? this.place() : null, view: JSON.stringify(axes) });
    } catch (error) {
      if (error.name === "AbortError") return;
      // Offline is said once, at the top of the page; the last figure stays until the service is back.
      if (error.isOffline) this.missed.add(name);
      else drawing.fail(h("strong", {}, error.title ?? "No figure"), h("span", {}, ` ${error.detail ?? error.message}`));
    } finally {
      this.isLoading = false;
    }
    if (this.stale.has(this.shown)) this.loadSoon();
  }
}
