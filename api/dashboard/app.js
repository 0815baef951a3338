// Which view the address names. `#/jobs`, `#/jobs/ID?candidate=DIGEST`, `#/new`.

import { h, put } from "./dom.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { newJobView } from "./new_job.js";
import { empty } from "./notices.js";

let current = null;
let shown = null;

function viewOf(path, values) {
  if (path === "/" || path === "/jobs") return jobsView();
  if (path === "/new") return newJobView();
  const [, jobId] = /^\/jobs\/([^/]+)$/.exec(path) ?? [];
  if (jobId) return jobView(decodeURIComponent(jobId), values);
  const back = h("a", { href: "#/jobs" }, "list of jobs");
  return { element: empty(h("h1", {}, "No such page"), h("p", {}, "Go to the ", back, ".")), title: "No such page", destroy: () => {} };
}

function route() {
  const [path, text = ""] = location.hash.replace(/^#/, "").split("?");
  const values = new URLSearchParams(text);
  // Going back and forth inside one job changes what is selected, not the view.
  if (path === shown && current?.revisit) return current.revisit(values);
  current?.destroy();
  put(document.querySelector(".connection"));
  shown = path;
  current = viewOf(path || "/jobs", values);
  put(document.getElementById("main"), current.element);
  document.title = `${current.title} · Architecture search`;
  for (const link of document.querySelectorAll("[data-page]")) {
    const isHere = path.startsWith(`/${link.dataset.page}`) || (!path && link.dataset.page === "jobs");
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  return undefined;
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
window.addEventListener("hashchange", route);
route();
