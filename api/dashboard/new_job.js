// A new job, written as JSON: checked first, then submitted.

import { h, put } from "./dom.js";
import { problemBox } from "./notices.js";
import { preflightReport } from "./reports.js";
import { Problem, rest } from "./rest.js";

const EXAMPLE = {
  name: "digits",
  space: { name: "nasbench201", config: { channels: 8 } },
  dataset: "digits",
  objectives: { accuracy: "max", params: "min" },
  constraints: ["params <= 200k"],
  budget: { wall_time: "10m" },
};

const POLL_MILLISECONDS = 500;

export function newJobView() {
  const text = h("textarea", { id: "spec", spellcheck: "false", rows: "18", "aria-describedby": "spec-help" });
  text.value = JSON.stringify(EXAMPLE, null, 2);
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const check = h("button", { type: "button" }, "Check");
  const submit = h("button", { type: "submit", class: "primary" }, "Submit");

  const waiting = (words) => words && put(answer, h("p", { class: "fine" }, `${words} …`));
  const run = async (action, first) => {
    check.disabled = submit.disabled = true;
    put(answer, h("p", { class: "fine" }, first));
    try {
      await action(read(text.value));
    } catch (error) {
      put(answer, problemBox(error));
    } finally {
      check.disabled = submit.disabled = false;
    }
  };
  check.addEventListener("click", () =>
    run(async (spec) => put(answer, preflightReport(await checked(spec, waiting))), "Checking; a worker samples the space …"),
  );
  const form = h(
    "form",
    { class: "card" },
    h("label", { for: "spec" }, "Specification, as JSON"),
    text,
    h("p", { class: "fine", id: "spec-help" }, "Check spends nothing: it refuses what is wrong and says what the job would meet."),
    h("div", { class: "buttons" }, submit, check),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run(async (spec) => {
      const job = await rest.submit(spec);
      location.hash = `#/jobs/${encodeURIComponent(job.job_id)}`;
    }, "Submitting …");
  });
  const element = h("div", { class: "view" }, h("div", { class: "view-head" }, h("h1", {}, "New job")), h("div", { class: "split" }, form, answer));
  return { element, title: "New job", destroy: () => {} };
}

/** The report of a dry run, once a worker has made it; `tell` is called with what it waits for. */
async function checked(spec, tell) {
  let found = await rest.check(spec);
  while (found.state === "QUEUED" || found.state === "RUNNING") {
    tell(found.message);
    await new Promise((done) => setTimeout(done, POLL_MILLISECONDS));
    found = await rest.preflight(found.preflight_id);
  }
  if (found.report) return found.report;
  const detail = found.violations.length ? "" : found.reason;
  throw new Problem({ title: "The job would fail", detail, violations: found.violations });
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem({ title: "This is not JSON", detail: error.message });
  }
}
