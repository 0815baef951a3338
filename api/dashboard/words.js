// What the service's states mean to a reader, and which verbs they allow.

export const PHASES = ["PREFLIGHT", "SCORE", "SUPERNET", "SEARCH", "AUDIT", "DELIVER"];

export const PHASE_TITLES = {
  PREFLIGHT: "Preflight",
  SCORE: "Scores",
  SUPERNET: "Supernet",
  SEARCH: "Search",
  AUDIT: "Audit",
  DELIVER: "Deliver",
};

export const VERBS = {
  pause: { title: "Pause", hint: "Keep everything and wait; resume goes on from here." },
  resume: { title: "Resume", hint: "Go on from where the job paused." },
  stop: { title: "Stop and deliver", hint: "End the search early; audit and delivery still run." },
  cancel: { title: "Cancel", hint: "End the job now, without delivering." },
};

const LEGAL = {
  QUEUED: ["pause", "stop", "cancel"],
  RUNNING: ["pause", "stop", "cancel"],
  PAUSING: ["resume", "stop", "cancel"],
  PAUSED: ["resume", "stop", "cancel"],
  STOPPING: ["cancel"],
};

/** Which phases have something to do in a job; what preflight has not said yet may have. */
export function hasPhase(phase, { spec, progress, preflight }) {
  if (preflight?.phases?.length) return preflight.phases.includes(phase);
  switch (phase) {
    case "SCORE":
      return Boolean(spec.scoring?.pool && spec.scoring.proxies.length);
    case "SUPERNET":
      return Boolean(spec.dataset);
    case "AUDIT":
      return !preflight || progress.audits_total > 0;
    case "DELIVER":
      return !preflight || progress.deliveries_total > 0;
    default:
      return true;
  }
}

/** The verbs that a job in `state` understands. */
export function legalVerbs(state) {
  return LEGAL[state] ?? [];
}

export function isTerminal(state) {
  return state === "SUCCEEDED" || state === "FAILED" || state === "CANCELLED";
}

/** Objectives with the `metric@level` under which a candidate keeps its value. */
export function keyed(objectives) {
  return objectives.map((objective) => ({ ...objective, key: `${objective.metric}@${objective.level}` }));
}

/** Which of two values of an objective is better: negative when `a` is. */
export function better(objective, a, b) {
  return objective.direction === "max" ? b - a : a - b;
}
