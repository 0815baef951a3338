// A job's events as they happen.

import { eventsAddress } from "./rest.js";

const STORED = [
  "job.state",
  "phase",
  "epoch",
  "evaluations",
  "front",
  "audit",
  "trust",
  "choice",
  "contender",
  "delivery",
  "log",
  "lease",
];
const RETRY_MS = 3000;

/**
 * Follow a job from the event after `after`. EventSource reconnects by itself and tells the server the last event it
 * saw; where it gives up (the server answered with an error), a new one starts from there.
 *
 * `onEvent(type, data, sequence, at)`, `onProgress(job)`, `onEnd({state, reason})`, `onConnection(isUp)`. Gives a function that stops it.
 */
export function follow(jobId, after, { onEvent, onProgress, onEnd, onConnection }) {
  let source = null;
  let timer = null;
  let last = after;

  const stop = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };

  const start = () => {
    source = new EventSource(eventsAddress(jobId, last));
    source.onopen = () => onConnection(true);
    source.onerror = () => {
      onConnection(false);
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(start, RETRY_MS);
    };
    for (const type of STORED) {
      source.addEventListener(type, (message) => {
        const sequence = Number(message.lastEventId);
        // A reconnect may bring the last event once more.
        if (sequence && sequence <= last) return;
        if (sequence) last = sequence;
        const stored = JSON.parse(message.data);
        const isWhole = "sequence" in stored && "data" in stored;
        onEvent(type, isWhole ? stored.data : stored, sequence, isWhole ? stored.at : null);
      });
    }
    source.addEventListener("progress", (message) => onProgress(JSON.parse(message.data)));
    source.addEventListener("end", (message) => {
      stop();
      onEnd(JSON.parse(message.data));
    });
  };

  start();
  return stop;
}
