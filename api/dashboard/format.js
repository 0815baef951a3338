// How numbers, units and times read.

const PLAIN = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const SUFFIXES = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
];
const UNITS = { _ms: "ms", _s: "s", _seconds: "s", _bytes: "B", _mb: "MB", _mib: "MiB", _mj: "mJ" };

/** A measured number: whole ones grouped, large ones with a suffix, the rest with four or five digits. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [factor, suffix] of SUFFIXES) {
    if (size >= factor) return `${(value / factor).toFixed(2)} ${suffix}`;
  }
  if (Number.isInteger(value) || size >= 10_000) return PLAIN.format(value);
  if (size < 0.001) return value.toExponential(1);
  if (size < 10) return value.toFixed(4);
  return value.toPrecision(5);
}

/** A count. */
export function count(value) {
  return PLAIN.format(value);
}

/** The exact value, for a tooltip. */
export function exact(value) {
  return Number.isInteger(value) ? PLAIN.format(value) : String(value);
}

/** A fraction as whole per cent, rounded; 100 only of what is whole. */
export function percent(fraction) {
  const rounded = Math.round(100 * fraction);
  return `${rounded === 100 && fraction < 1 ? 99 : rounded} %`;
}

/** A number and what is counted: `1 point`, `1,200 points`. */
export function counted(number, noun) {
  return `${count(number)} ${number === 1 ? noun : `${noun}s`}`;
}

/** A share, where small ones matter. */
export function share(fraction) {
  if (fraction > 0 && fraction < 0.001) return "< 0.1 %";
  return `${(100 * fraction).toFixed(fraction > 0 && fraction < 0.1 ? 1 : 0)} %`;
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 172_800) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86_400, "d", 3600, "h");
}

function two(seconds, large, largeName, small, smallName) {
  const rest = Math.floor((seconds % large) / small);
  const first = `${Math.floor(seconds / large)} ${largeName}`;
  return rest ? `${first} ${pad(rest)} ${smallName}` : first;
}

/** Seconds as a stop watch shows them. */
export function stopwatch(seconds) {
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return `${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(whole % 60)}`;
}

function pad(value) {
  return String(value).padStart(2, "0");
}

/** A size in bytes. */
export function bytes(size) {
  if (size === null || size === undefined) return "–";
  let rest = size;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (rest < 1024) return `${unit === "B" ? rest : rest.toPrecision(3)} ${unit}`;
    rest /= 1024;
  }
  return `${rest.toPrecision(3)} TiB`;
}

/** An instant, in the reader's own zone. */
export function moment(text) {
  return text ? DATE.format(new Date(text)) : "–";
}

/** The time of day of an instant. */
export function clock(text) {
  return CLOCK.format(new Date(text));
}

/** The two halves of `metric@level`. */
export function metricOf(key) {
  const at = key.lastIndexOf("@");
  return at < 0 ? { metric: key, level: "" } : { metric: key.slice(0, at), level: key.slice(at + 1) };
}

/** A metric's name without the unit that ends it, and that unit. */
export function titled(metric) {
  for (const [ending, unit] of Object.entries(UNITS)) {
    if (metric.endsWith(ending)) return { name: words(metric.slice(0, -ending.length)), unit };
  }
  return { name: words(metric), unit: "" };
}

/** A name in code as words. */
export function words(name) {
  return name.replaceAll("_", " ").replaceAll(".", " ");
}

/** `metric@level` in words: `latency (ms), cost`. */
export function keyLabel(key) {
  const { metric, level } = metricOf(key);
  const { name, unit } = titled(metric);
  return `${name}${unit ? ` (${unit})` : ""}${level ? `, ${level}` : ""}`;
}

/** The value of a metric with its unit. */
export function withUnit(value, metric, unit = "") {
  const shown = unit || titled(metric).unit;
  return shown ? `${number(value)} ${shown}` : number(value);
}
