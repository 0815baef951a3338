// What a job says of itself: what it would meet, how far it can be trusted, what it delivered.

import { contest } from "./choice.js";
import { h, svg } from "./dom.js";
import * as format from "./format.js";
import { contentAddress } from "./rest.js";

function table(titles, rows) {
  const head = titles.map((title, index) => h("th", { scope: "col", class: index ? "num" : null }, title));
  return h("div", { class: "scroll-x" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)));
}

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return h("dl", { class: "facts" }, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** What a job will meet. */
export function preflightReport(report) {
  const rows = report.costs.map(({ metric, unit, minimum, median, maximum, share_feasible: feasible }) => {
    const { name, unit: ending } = format.titled(metric);
    const measured = unit || ending;
    const cells = [minimum, median, maximum].map((value) => h("td", { class: "num", title: format.exact(value) }, format.number(value)));
    const kept = h("td", { class: "num" }, feasible === null || feasible === undefined ? "–" : format.share(feasible));
    return h("tr", {}, h("th", { scope: "row" }, name, measured ? h("span", { class: "unit" }, ` ${measured}`) : null), cells, kept);
  });
  return h(
    "div",
    { class: "report" },
    h("p", { class: report.satisfiable === false ? "verdict bad" : "verdict" }, satisfiable(report)),
    facts([
      ["Architectures in the space", format.count(report.space_size)],
      ["Memory of the largest path", report.largest_path_bytes && format.bytes(report.largest_path_bytes)],
      ["Training steps", report.train_steps && format.count(report.train_steps)],
      ["Expected time", report.expected_seconds && `about ${format.duration(report.expected_seconds)}`],
    ]),
    rows.length ? table(["Cost", "Minimum", "Median", "Maximum", "Within constraints"], rows) : null,
    report.notes?.length ? h("ul", { class: "notes" }, report.notes.map((note) => h("li", {}, note))) : null,
  );
}

function satisfiable({ satisfiable: can, share_feasible: feasible }) {
  if (can === false) return "No sampled architecture meets the constraints.";
  const kept = feasible === null || feasible === undefined ? "" : ` ${format.share(feasible)} of the sampled architectures meet them.`;
  if (can === null || can === undefined) return `Whether the constraints can be met is not known yet.${kept}`;
  if (!kept) return "There are no constraints on costs.";
  return feasible === 1 ? "Every sampled architecture meets the constraints." : `The constraints can be met.${kept}`;
}

const SCALE = { width: 180, height: 18, pad: 6 };

/** How far the ranking can be trusted: the verdict in words, every ranker's agreement, and what its best are worth. */
export function trustReport({ audited, verdict, populations, truth, rankers, comparisons, best, notes, provenance }) {
  const isWorse = (comparisons ?? []).some(({ interval }) => interval?.[1] < 0);
  const worth = rankers.filter(({ top }) => top);
  return h(
    "div",
    { class: "report" },
    h("p", { class: isWorse ? "verdict bad" : "verdict" }, verdict),
    rankers.length ? h("p", { class: "fine" }, `Held against ${truth}; ${format.count(audited)} networks.${best ? ` Best trusted here: ${best}.` : ""}`) : null,
    rankers.length ? agreements(rankers, populations ?? []) : null,
    worth.length ? worths(worth) : null,
    notes?.length ? h("ul", { class: "notes" }, notes.map((note) => h("li", {}, note))) : null,
    provenance ? origin(provenance) : null,
  );
}

const WHERE = { space: "in the whole space", near_front: "near the front", audited: "among the audited networks" };

function agreements(rankers, populations) {
  const [first, near] = populations;
  const lows = rankers.map(({ kendall, interval }) => interval?.[0] ?? kendall ?? 0);
  const low = Math.max(-1, Math.min(-0.2, ...lows));
  const cell = (value) => h("td", { class: "num" }, format.number(value));
  const between = (interval) => h("td", { class: "num" }, interval ? `${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}` : "–");
  const rows = rankers.map((ranker) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, format.words(ranker.ranker), ranker.is_free ? h("span", { class: "unit" }, " free") : null),
      cell(ranker.kendall),
      h("td", {}, whiskers(ranker, low)),
      between(ranker.interval),
      near ? cell(ranker.near_front?.kendall) : null,
      near ? between(ranker.near_front?.interval) : null,
      cell(ranker.partial_kendall),
      cell(ranker.sparse_kendall),
      cell(ranker.spearman),
      cell(ranker.kendall_top_decile),
    ),
  );
  const nearby = near ? [`tau near the front (${near.networks})`, "95 % interval"] : [];
  const where = first ? `Kendall tau ${WHERE[first.name]} (${first.networks})` : "Kendall tau";
  const heads = ["Ranked by", where, "", "95 % interval", ...nearby, "given live FLOPs", "to 0.1 %", "Spearman", "top decile"];
  return h(
    "div",
    {},
    table(heads, rows),
    populations.map(({ name, networks, rule }) =>
      h("p", { class: "fine" }, `${format.words(WHERE[name])}: ${format.count(networks)} networks of ${rule}.`),
    ),
  );
}

function worths(rankers) {
  const cell = (value, shown = format.number) => h("td", { class: "num" }, value === null || value === undefined ? "–" : shown(value));
  const signed = (fraction) => `${fraction < 0 ? "−" : "+"}${format.percent(Math.abs(fraction))}`;
  const rows = rankers.map(({ ranker, top }) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, format.words(ranker)),
      cell(top.mean),
      cell(top.best),
      cell(top.regret),
      cell(top.beats_random, format.percent),
      cell(top.relative_improvement, signed),
    ),
  );
  const best = rankers[0].top.k;
  return table([`Its best ${best}, really`, "mean", "best", "regret", "beats random", "over random"], rows);
}

function origin({ rule, context, wall_seconds: seconds, passes }) {
  const { bn, eval_batch: batch, ...others } = context ?? {};
  const spent = Object.entries(passes ?? {}).map(([name, number]) => `${format.count(number)} ${format.words(name).toLowerCase()}`);
  const more = Object.entries(others).map(([name, value]) => `${format.words(name).toLowerCase()} ${value}`);
  return h(
    "details",
    {},
    h("summary", {}, "How these figures came about"),
    facts([
      ["Networks", rule],
      ["Normalisation by statistics of", bn === "batch" ? "the evaluation batch" : bn],
      ["Evaluation batch", batch && `${format.count(batch)} images`],
      ["Values", more.join(", ") || null],
      ["Spent", [...spent, seconds ? format.duration(seconds) : null].filter(Boolean).join(", ") || null],
    ]),
  );
}

/** One agreement on a common scale from `low` to 1, with a line at 0. */
function whiskers({ kendall, interval }, low) {
  const { width, height, pad } = SCALE;
  const x = (value) => pad + ((Math.max(low, value) - low) / (1 - low)) * (width - 2 * pad);
  const middle = height / 2;
  const parts = [
    svg("line", { x1: pad, x2: width - pad, y1: middle, y2: middle, class: "track" }),
    svg("line", { x1: x(0), x2: x(0), y1: 2, y2: height - 2, class: "zero" }),
  ];
  if (interval) parts.push(svg("line", { x1: x(interval[0]), x2: x(interval[1]), y1: middle, y2: middle, class: "whisker" }));
  if (kendall !== null && kendall !== undefined) parts.push(svg("circle", { cx: x(kendall), cy: middle, r: 4, class: "dot" }));
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "whiskers" }, parts);
}

const FORMAT_NAMES = { onnx: "ONNX", torch_export: "torch.export", pytorch: "PyTorch source" };

export function formatName(name) {
  return FORMAT_NAMES[name] ?? format.words(name);
}

/** One network that came out: its metrics, how far each format is from it, and the files. */
export function delivery(given, { onSelect = null } = {}) {
  const name = given.digest.slice(0, 10);
  const title = onSelect ? h("button", { type: "button", class: "link mono", onclick: () => onSelect(given.digest) }, name) : null;
  const weights = given.weights === "trained" ? "trained from scratch" : "inherited from the supernet";
  const timed = (given.timed ?? []).map(({ metric, value }) => [metric, value]);
  const metrics = [...Object.entries(given.metrics), ...timed].map(([metric, value]) => [format.keyLabel(metric), metricValue(metric, value)]);
  const files = Object.entries(given.artifacts);
  return h(
    "article",
    { class: "delivery" },
    h("p", { class: "delivery-head" }, title, h("span", { class: "fine" }, `weights ${weights}`)),
    h("p", { class: "mono arch" }, given.text),
    metrics.length ? facts(metrics) : null,
    given.measured_with ? h("p", { class: "fine" }, `Measured with ${given.measured_with}.`) : null,
    given.chosen ? h("p", { class: "fine" }, `Chosen by ${given.chosen}.`) : null,
    given.contenders?.length > 1 ? contest(given.contenders) : null,
    files.length ? h("ul", { class: "files" }, files.map(([form, id]) => file(form, id, given.parity[form]))) : null,
  );
}

function metricValue(key, value) {
  return h("span", { title: format.exact(value) }, format.withUnit(value, format.metricOf(key).metric));
}

function file(form, artifactId, difference) {
  const link = h("a", { href: contentAddress(artifactId), download: "" }, `Download ${formatName(form)}`);
  const parity = difference === undefined ? null : `largest difference to the network ${difference === 0 ? "0" : difference.toExponential(1)}`;
  return h("li", {}, link, parity ? h("span", { class: "fine" }, parity) : null);
}
