// What the page says when something went wrong or is missing.

import { h, put } from "./dom.js";
import { rest } from "./rest.js";

/** A problem in full: what, why, each violated field, and what to quote when asking for help. */
export function problemBox(problem, { retry } = {}) {
  const violations = problem.violations ?? [];
  const code = [problem.code, problem.status || null, problem.requestId && `request ${problem.requestId}`];
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h3", {}, problem.title || "Something went wrong in the page"),
    violations.length ? violationTable(violations) : h("p", {}, problem.detail || String(problem)),
    problem.status === 401 ? signIn() : null,
    h("p", { class: "fine mono" }, code.filter(Boolean).join(" · ")),
    retry ? h("button", { type: "button", onclick: retry }, "Try again") : null,
  );
}

/** Asks for a token; the service keeps it in a cookie, because EventSource cannot send a header. */
function signIn() {
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const answer = h("div");
  const form = h("form", { class: "buttons" }, h("label", { class: "inline", for: "token" }, "Token"), token, h("button", { class: "primary" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await rest.signIn(token.value);
      location.reload();
    } catch (error) {
      put(answer, h("p", { class: "failure" }, error.detail || error.title));
    }
  });
  return [form, answer];
}

export function violationTable(violations) {
  const rows = violations.map(({ field, value, allowed }) =>
    h("tr", {}, h("td", { class: "mono" }, field), h("td", { class: "mono" }, shown(value)), h("td", {}, shown(allowed))),
  );
  const head = h("tr", {}, ["Field", "Given", "Allowed"].map((title) => h("th", { scope: "col" }, title)));
  return h("div", { class: "scroll-x" }, h("table", { class: "plain" }, h("thead", {}, head), h("tbody", {}, rows)));
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** What stands in an empty place, and what will fill it. */
export function empty(...children) {
  return h("div", { class: "empty" }, children);
}

/** A state as a labelled dot: the word carries the meaning, the colour only repeats it. */
export function badge(state) {
  return h("span", { class: `badge ${state.toLowerCase()}` }, state.charAt(0) + state.slice(1).toLowerCase());
}

/** A bar that is `fraction` full. */
export function bar(fraction, label, { done = false } = {}) {
  const filled = h("span", { style: `inline-size: ${(100 * fraction).toFixed(1)}%` });
  return h(
    "span",
    {
      class: done ? "progress done" : "progress",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": Math.round(100 * fraction),
    },
    filled,
  );
}
