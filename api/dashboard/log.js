// What happened in a job, newest first.

import { h, put, section } from "./dom.js";
import * as format from "./format.js";
import { PHASE_TITLES } from "./words.js";

const MOST_ROWS = 300;
// They come many times a second and are shown by the charts and counters.
const CHATTY = new Set(["evaluations", "front", "epoch"]);

const WORDS = {
  "job.state": ({ state, reason }) => `${format.words(state ?? "").toLowerCase()}${reason ? `: ${reason}` : ""}`,
  phase: ({ phase }) => `${PHASE_TITLES[phase] ?? phase} begins`,
  epoch: ({ epoch, epochs, loss, images_per_second: rate }) =>
    `epoch ${epoch} of ${epochs}, loss ${format.number(loss)}${rate ? `, ${format.count(rate)} images/s` : ""}`,
  evaluations: ({ done, total, front_size: size }) => `${done} of ${total} evaluated, ${size} on the front`,
  front: ({ points }) => `front of ${format.counted(Array.isArray(points) ? points.length : points, "point")}`,
  audit: ({ digest, accuracy, done, total }) =>
    `${done} of ${total}: ${digest?.slice(0, 10) ?? ""} reached ${format.number(accuracy)}`,
  trust: ({ verdict }) => verdict,
  choice: ({ digest, reason, warning }) => `${digest?.slice(0, 10)} comes first, by ${reason}${warning ? `; warning: ${warning}` : ""}`,
  contender: ({ digest, epochs, accuracy, error }) =>
    `${digest?.slice(0, 10)} contends: ${error ?? `${format.number(accuracy)} on valid`} after ${format.number(epochs)} epochs`,
  delivery: ({ digest, weights, metrics }) =>
    `${digest?.slice(0, 10)} (${weights} weights)${metrics?.test_accuracy ? `, test accuracy ${format.number(metrics.test_accuracy)}` : ""}`,
  log: ({ message }) => message,
  lease: ({ message, worker, attempt }) => `${message ?? ""} ${worker ? `(worker ${worker}, attempt ${attempt})` : ""}`.trim(),
};

/** The log; `add(type, data, sequence, at)` is cheap, drawing happens once a frame. */
export function eventLog() {
  const events = [];
  let all = false;
  let frame = null;
  const list = h("ol", { class: "log", tabindex: "0", "aria-label": "Events, newest first" });
  const choose = h("input", { type: "checkbox", onchange: (event) => show(event.target.checked) });
  const note = h("p", { class: "fine" });

  const draw = () => {
    frame = null;
    const wanted = [];
    for (let index = events.length - 1; index >= 0 && wanted.length < MOST_ROWS; index -= 1) {
      if (all || !CHATTY.has(events[index].type)) wanted.push(events[index]);
    }
    put(list, wanted.map(row));
    if (!wanted.length) put(list, h("li", { class: "fine" }, "Nothing yet."));
    put(note, wanted.length === MOST_ROWS ? `The newest ${MOST_ROWS} are shown.` : "");
  };
  const soon = () => {
    frame ??= requestAnimationFrame(draw);
  };
  const show = (everything) => {
    all = everything;
    soon();
  };

  const card = section("Events", { id: "events" }, list, note);
  card.querySelector(".card-head").append(h("label", { class: "inline" }, choose, " every step"));
  soon();
  return {
    element: card,
    add(type, data, sequence, at) {
      events.push({ type, data, sequence, at });
      if (events.length > 20 * MOST_ROWS) events.splice(0, 10 * MOST_ROWS);
      soon();
    },
    destroy: () => cancelAnimationFrame(frame),
  };
}

function row({ type, data, sequence, at }) {
  const level = type === "log" ? (data.level ?? "info").toLowerCase() : "";
  return h(
    "li",
    { class: level },
    h("time", { datetime: at, title: at ? format.moment(at) : `event ${sequence}` }, at ? format.clock(at) : `#${sequence}`),
    h("span", { class: "kind" }, format.words(type)),
    h("span", { class: "what" }, WORDS[type]?.(data) ?? JSON.stringify(data)),
  );
}
