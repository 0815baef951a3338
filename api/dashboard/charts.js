// Plotly figures that the API serves, drawn in the page's own colours.

import { h, put } from "./dom.js";

const CONFIG = {
  displaylogo: false,
  responsive: false,
  scrollZoom: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  toImageButtonOptions: { format: "svg" },
};

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Plotly once it has been read; rejects when it could not be. */
function plotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  const script = document.getElementById("plotly");
  return new Promise((resolve, reject) => {
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("The charts' library could not be loaded.")));
    // The script may have failed before anybody listened.
    if (document.readyState === "complete") reject(new Error("The charts' library could not be loaded."));
  });
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--ink"),
    soft: read("--ink-soft"),
    line: read("--line"),
    surface: read("--surface"),
    grid: read("--grid"),
    selected: read("--selected"),
  };
}

function axis(given, tone) {
  return {
    ...given,
    gridcolor: tone.grid,
    linecolor: tone.line,
    zerolinecolor: tone.line,
    tickcolor: tone.line,
    tickfont: { ...given?.tickfont, color: tone.soft },
    title: titleOf(given?.title, tone),
    automargin: true,
  };
}

function titleOf(title, tone) {
  if (!title) return title;
  const whole = typeof title === "string" ? { text: title } : title;
  return { ...whole, font: { ...whole.font, color: tone.soft, size: 12 } };
}

function themed(layout, tone) {
  const axes = Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name));
  const own = Object.fromEntries(axes.map((name) => [name, axis(layout[name], tone)]));
  return {
    ...layout,
    ...own,
    title: undefined,
    width: undefined,
    height: undefined,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...layout.font, color: tone.ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
    hoverlabel: { bgcolor: tone.surface, bordercolor: tone.line, font: { color: tone.ink, size: 12 }, align: "left" },
    legend: { ...layout.legend, bgcolor: "rgba(0,0,0,0)", font: { color: tone.soft, size: 12 } },
    margin: { l: 56, r: 16, t: 24, b: 48, ...layout.margin },
    annotations: layout.annotations?.map((note) => ({ ...note, font: { ...note.font, color: note.font?.color ?? tone.ink } })),
  };
}

/** The digest that a point of a figure stands for, or null. */
export function digestOf(point) {
  const data = point?.customdata;
  const first = Array.isArray(data) ? data[0] : data;
  return typeof first === "string" && first ? first : null;
}

function ring(at, tone) {
  return {
    type: "scatter",
    mode: "markers",
    x: [at.x],
    y: [at.y],
    marker: { symbol: "circle-open", size: 17, color: tone.selected, line: { width: 3, color: tone.selected } },
    hoverinfo: "skip",
    showlegend: false,
    name: "selected",
  };
}

/**
 * A place for one figure. `show(figure, {selected, view})` draws it with a ring at `selected` ({x, y} or null), keeping the
 * reader's zoom as long as `view` is the same; `fail(message)` says why there is none.
 */
export function chart({ label, className = "chart", onSelect = null }) {
  const canvas = h("div", { class: "canvas" });
  const cover = h("div", { class: "cover" }, "Loading …");
  const element = h("div", { class: className, role: "figure", "aria-label": label }, canvas, cover);
  let drawn = null;
  let library = null;
  // Plotly measures what it draws into, so a hidden figure waits until it is seen.
  let isDue = false;

  const draw = async () => {
    isDue = true;
    if (!drawn || !element.offsetParent) return;
    isDue = false;
    const { figure, selected, view } = drawn;
    const tone = colours();
    const layout = { ...themed(figure.layout ?? {}, tone), uirevision: view };
    canvas.style.blockSize = figure.layout?.height > element.clientHeight ? `${figure.layout.height}px` : "";
    try {
      library = await plotly();
      await library.react(canvas, selected ? [...figure.data, ring(selected, tone)] : figure.data, layout, CONFIG);
    } catch (error) {
      put(cover, String(error.message ?? error));
      cover.hidden = false;
      return;
    }
    cover.hidden = true;
    if (onSelect && !canvas.dataset.listens) {
      canvas.dataset.listens = "yes";
      canvas.on("plotly_click", ({ points }) => {
        const digest = points.map(digestOf).find(Boolean);
        if (digest) onSelect(digest);
      });
    }
  };

  const sizes = new ResizeObserver(() => {
    if (!element.offsetParent || !drawn) return;
    if (isDue) draw();
    else if (library && canvas.layout) library.Plots.resize(canvas);
  });
  sizes.observe(element);
  dark.addEventListener("change", draw);

  return {
    element,
    show(figure, { selected = null, view = "same" } = {}) {
      drawn = { figure, selected, view };
      return draw();
    },
    mark(selected) {
      if (drawn) drawn.selected = selected;
      return draw();
    },
    fail(...children) {
      put(cover, ...children);
      cover.hidden = false;
    },
    destroy() {
      sizes.disconnect();
      dark.removeEventListener("change", draw);
      library?.purge(canvas);
    },
  };
}
