// What a job puts first, what chose it, and against whom a delivered network won.

import { h } from "./dom.js";
import * as format from "./format.js";

const BASIS = {
  audited: "trained for real in the audit",
  predicted: "by the ranking that the audit bears out",
  measured: "measured by the search",
  unchecked: "by a ranking that nothing was held against",
};
const SHOWN = 8;

function table(titles, rows) {
  const head = titles.map((title, index) => h("th", { scope: "col", class: index ? "num" : null }, title));
  return h("div", { class: "scroll-x" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

function expected({ mean, std }) {
  return std === null || std === undefined ? format.number(mean) : `${format.number(mean)} ± ${format.number(std)}`;
}

/** The reason and the warning in words, and the first candidates with their expected values. */
export function choiceReport({ metric, reason, warning, estimates }, { winners, onSelect }) {
  const costs = Object.keys(estimates[0].values);
  const rows = estimates.slice(0, SHOWN).map((estimate) => {
    const { digest, basis, values, on_front: onFront } = estimate;
    const select = h("button", { type: "button", class: "link mono", onclick: () => onSelect(digest) }, digest.slice(0, 10));
    const tags = [winners.includes(digest) ? h("span", { class: "tag" }, "delivered") : null, onFront ? h("span", { class: "tag front" }, "front") : null];
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("div", { class: "cell" }, select, tags)),
      h("td", { class: "num", title: format.exact(estimate.mean) }, expected(estimate)),
      costs.map((key) => h("td", { class: "num", title: format.exact(values[key]) }, format.number(values[key]))),
      h("td", { class: "fine" }, BASIS[basis] ?? basis),
    );
  });
  return h(
    "div",
    { class: "report" },
    h("p", { class: warning ? "verdict bad" : "verdict" }, `Chosen by ${reason}.`),
    warning ? h("p", { class: "fine" }, `Warning: ${warning}.`) : null,
    table(["Candidate", `expected ${format.words(metric).toLowerCase()}`, ...costs.map((key) => format.keyLabel(key)), "known"], rows),
  );
}

/** How those that contended for the place of a delivered network did. */
export function contest(contenders) {
  const cell = (value) => h("td", { class: "num" }, value === null || value === undefined ? "–" : format.number(value));
  const rows = contenders.map(({ digest, epochs, value, mean, won }) =>
    h("tr", {}, h("th", { scope: "row", class: "mono" }, digest.slice(0, 10), won ? " won" : ""), cell(epochs), cell(value), cell(mean)),
  );
  return h("details", {}, h("summary", {}, contenders.length === 2 ? "Won against one other" : `Won against ${contenders.length - 1} others`), table(["Network", "epochs on train", "on valid", "with all evidence"], rows));
}
