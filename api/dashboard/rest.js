// The service's REST interface. Addresses are relative, so that the page also works behind a proxy's prefix.

/** What went wrong, as the service says it (RFC 9457), or as the browser does. */
export class Problem extends Error {
  constructor({ title, detail = "", code = "", status = 0, request_id = "", violations = [] }) {
    super(detail || title);
    Object.assign(this, { title, detail, code, status, requestId: request_id, violations });
  }

  /** Whether nobody answered. */
  get isOffline() {
    return this.status === 0;
  }
}

function key() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function problemOf(response) {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    const title = body.title || `The service answered ${response.status}`;
    return new Problem({ ...body, title, status: response.status });
  } catch {
    const title = `The service answered ${response.status} ${response.statusText}`.trim();
    return new Problem({ title, detail: text.slice(0, 500), status: response.status });
  }
}

async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const options = { method, signal, headers: { Accept: "application/json", ...headers } };
  if (method === "POST") options.headers["Idempotency-Key"] = key();
  if (method !== "GET") {
    options.headers["Content-Type"] = "application/json";
    if (body !== undefined) options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      title: "The service does not answer",
      detail: "It may have ended, or the network is down. What you see is the last that it said; the page keeps trying.",
    });
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/** A query string from the values that are set. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

const job = (jobId) => `v1/jobs/${encodeURIComponent(jobId)}`;

export const rest = {
  jobs: (filters, signal) => request(`v1/jobs${query(filters)}`, { signal }),
  job: (jobId, signal) => request(job(jobId), { signal }),
  check: (spec) => request("v1/jobs?dry_run=true", { method: "POST", body: spec }),
  preflight: (preflightId) => request(`v1/preflights/${encodeURIComponent(preflightId)}`),
  submit: (spec) => request("v1/jobs", { method: "POST", body: spec }),
  verb: (jobId, verb) => request(`${job(jobId)}/${verb}`, { method: "POST" }),
  front: (jobId, signal) => request(`${job(jobId)}/pareto`, { signal }),
  trust: (jobId, signal) => request(`${job(jobId)}/trust`, { signal }),
  candidates: (jobId, filters, signal) => request(`${job(jobId)}/candidates${query(filters)}`, { signal }),
  candidate: (jobId, digest, signal) => request(`${job(jobId)}/candidates/${encodeURIComponent(digest)}`, { signal }),
  drawing: (jobId, digest, signal) =>
    request(`${job(jobId)}/candidates/${encodeURIComponent(digest)}/figure`, { signal }),
  figure: (jobId, name, values, signal) => request(`${job(jobId)}/figures/${name}${query(values)}`, { signal }),
  exports: (jobId, signal) => request(`${job(jobId)}/exports`, { signal }),
  export: (jobId, wanted) => request(`${job(jobId)}/exports`, { method: "POST", body: wanted }),
  signIn: (token) => request("v1/session", { method: "POST", body: { token } }),
};

/** Where the events of a job are streamed. */
export function eventsAddress(jobId, after) {
  return `${job(jobId)}/events${query({ after })}`;
}

/** Where an artifact's content is. */
export function contentAddress(artifactId) {
  return `v1/artifacts/${encodeURIComponent(artifactId)}/content`;
}
