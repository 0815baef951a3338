// The table of candidates. Pages come by key as the reader scrolls, and only the rows in sight are in the document, so
// that 100,000 candidates cost what twenty do.

import { h, put, say, section, throttled } from "./dom.js";
import * as format from "./format.js";
import { problemBox } from "./notices.js";
import { rest } from "./rest.js";

const PAGE_SIZE = 100;
const ROW_PX = 30;
const OVERSCAN = 12;
const REFRESH_MS = 2000;
const FILTERS = {
  all: ["All", {}],
  front: ["On the front", { on_front: true }],
  feasible: ["Feasible", { feasible: true }],
  infeasible: ["Infeasible", { feasible: false }],
};

export class CandidateTable {
  constructor(jobId, { objectives, onSelect, onKeys }) {
    Object.assign(this, { jobId, onSelect, onKeys });
    this.order = { key: objectives[0].key, descending: objectives[0].direction === "max" };
    this.objectiveKeys = new Map(objectives.map(({ key, direction }) => [key, direction]));
    this.filter = "all";
    this.keys = objectives.map(({ key }) => key);
    this.rows = [];
    this.next = null;
    this.total = 0;
    this.selected = null;
    this.build();
    this.refreshSoon = throttled(REFRESH_MS, () => this.refreshIfAtTop());
    this.reload();
  }

  build() {
    this.head = h("tr");
    this.body = h("tbody");
    this.table = h("table", { class: "candidates" }, h("thead", {}, this.head), this.body);
    this.box = h("div", { class: "rows", tabindex: "0", role: "region", "aria-label": "Candidates" }, this.table);
    this.box.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    this.status = h("p", { class: "fine", role: "status" });
    this.fresh = h("button", { type: "button", hidden: true, onclick: () => this.toTop() }, "Show new candidates");
    this.notice = h("div");
    const options = Object.entries(FILTERS).map(([name, [title]]) => h("option", { value: name }, title));
    const choose = (event) => {
      this.filter = event.target.value;
      this.toTop();
    };
    const select = h("label", { class: "inline" }, "Show ", h("select", { id: "candidate-filter", onchange: choose }, options));
    this.element = section("Candidates", { id: "candidates" }, this.notice, this.box, h("div", { class: "foot" }, this.status, this.fresh));
    this.element.querySelector(".card-head").append(select);
    this.drawHead();
  }

  destroy() {
    this.loading?.abort();
    this.refreshSoon.cancel();
    cancelAnimationFrame(this.frame);
  }

  /** How many candidates there are by now, as far as the page knows. */
  known(total) {
    this.total = total;
    this.drawStatus();
  }

  /** New candidates were written: take them in at once where that moves nothing under the reader's eyes. */
  changed() {
    this.refreshSoon();
  }

  refreshIfAtTop() {
    if (document.hidden) {
      this.refreshSoon();
      return;
    }
    const isAtTop = this.box.scrollTop < ROW_PX && this.rows.length <= PAGE_SIZE;
    if (isAtTop) this.reload();
    else this.fresh.hidden = false;
  }

  toTop() {
    this.box.scrollTop = 0;
    this.rows = [];
    this.reload();
  }

  mark(digest) {
    this.selected = digest;
    this.draw();
  }

  sortBy(key) {
    if (this.order.key === key) this.order = { key, descending: !this.order.descending };
    else this.order = { key, descending: this.objectiveKeys.get(key) === "max" || /accuracy/.test(key) };
    this.drawHead();
    this.toTop();
  }

  async reload() {
    this.fresh.hidden = true;
    await this.load(null);
  }

  /** Fetch the page after `token`, or the first one; an earlier request under way is dropped. */
  async load(token) {
    this.loading?.abort();
    const loading = new AbortController();
    this.loading = loading;
    const filters = {
      order_by: this.order.key,
      descending: this.order.descending,
      ...FILTERS[this.filter][1],
      page_size: PAGE_SIZE,
      page_token: token,
    };
    try {
      const page = await rest.candidates(this.jobId, filters, loading.signal);
      this.rows = token ? [...this.rows, ...page.items] : [...page.items];
      this.next = page.next_page_token ?? null;
      this.loaded = true;
      put(this.notice);
      this.learn(page.items);
    } catch (error) {
      if (error.name === "AbortError") return;
      put(this.notice, problemBox(error, { retry: () => this.load(token) }));
      // Scrolling on must not repeat a request that was refused.
      this.next = null;
    }
    if (this.loading === loading) this.loading = null;
    this.draw();
  }

  learn(items) {
    const seen = new Set(this.keys);
    for (const { values } of items) for (const key of Object.keys(values)) seen.add(key);
    if (seen.size > this.keys.length) this.addKeys([...seen]);
  }

  /** Show these `metric@level` columns too. */
  addKeys(keys) {
    const fresh = keys.filter((key) => !this.keys.includes(key)).sort();
    if (!fresh.length) return;
    this.keys = [...this.keys, ...fresh];
    this.onKeys(this.keys);
    this.drawHead();
    this.draw();
  }

  drawHead() {
    const columns = [["number", "#", ""], ...this.keys.map((key) => [key, ...columnTitle(key)])];
    const cells = columns.map(([key, title, sub]) => {
      const isSorted = this.order.key === key;
      const arrow = isSorted ? (this.order.descending ? "↓" : "↑") : "";
      const button = h("button", { type: "button", onclick: () => this.sortBy(key) }, title, h("span", { class: "arrow", "aria-hidden": "true" }, arrow));
      const sorted = isSorted ? (this.order.descending ? "descending" : "ascending") : null;
      return h("th", { scope: "col", class: "num", "data-key": key, "aria-sort": sorted }, button, h("span", { class: "sub" }, sub || "\u00a0"));
    });
    const held = document.activeElement?.closest?.("th")?.dataset.key;
    cells.splice(1, 0, h("th", { scope: "col" }, "Architecture", h("span", { class: "sub" }, "\u00a0")));
    put(this.head, cells);
    if (held) this.head.querySelector(`[data-key="${CSS.escape(held)}"] button`)?.focus();
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_PX) - OVERSCAN);
    const inSight = Math.ceil((this.box.clientHeight || 480) / ROW_PX) + 2 * OVERSCAN;
    const last = Math.min(this.rows.length, first + inSight);
    const held = document.activeElement?.closest?.("tr")?.dataset.digest;
    const rows = this.rows.slice(first, last).map((candidate, index) => this.row(candidate, first + index));
    put(this.body, spacer(first), rows, spacer(this.rows.length - last));
    if (held) this.body.querySelector(`[data-digest="${CSS.escape(held)}"] button`)?.focus({ preventScroll: true });
    this.table.setAttribute("aria-rowcount", this.next ? -1 : this.rows.length + 1);
    if (this.next && !this.loading && last > this.rows.length - PAGE_SIZE / 2) this.load(this.next);
    this.drawStatus();
  }

  row(candidate, index) {
    const { digest, number, text, values, on_front: onFront, feasible } = candidate;
    const select = h("button", { type: "button", class: "link mono arch", title: text, onclick: () => this.onSelect(digest) }, text);
    const marks = [onFront ? h("span", { class: "tag front" }, "front") : null, feasible ? null : h("span", { class: "tag" }, "infeasible")];
    const numbers = this.keys.map((key) => {
      const value = values[key];
      return h("td", { class: "num", title: value === undefined ? null : format.exact(value) }, format.number(value));
    });
    const attributes = { "data-digest": digest, "aria-rowindex": index + 2, "aria-selected": digest === this.selected ? "true" : null };
    return h("tr", attributes, h("td", { class: "num soft" }, format.count(number)), h("td", {}, h("div", { class: "cell" }, select, marks)), numbers);
  }

  drawStatus() {
    const held = format.count(this.rows.length);
    if (!this.loaded) say(this.status, "Loading …");
    else if (!this.rows.length) say(this.status, this.filter === "all" ? "No candidate has been measured yet." : "No such candidate.");
    else if (!this.next) say(this.status, this.rows.length === 1 ? "1 candidate." : `${held} candidates, all loaded.`);
    else say(this.status, this.filter === "all" && this.total ? `${held} loaded of about ${format.count(this.total)}; more as you scroll.` : `${held} loaded; more as you scroll.`);
  }
}

function columnTitle(key) {
  const { metric, level } = format.metricOf(key);
  const { name, unit } = format.titled(metric);
  return [name, [level, unit].filter(Boolean).join(", ")];
}

function spacer(count) {
  return h("tr", { class: "spacer", "aria-hidden": "true", style: `block-size: ${count * ROW_PX}px` });
}
