// Elements from plain values. Text always becomes text nodes: data is never read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** An HTML element. Attributes that are null or false are left out; `onclick` and its like take functions. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Put `children` in place of what `element` holds. */
export function put(element, ...children) {
  element.replaceChildren(...flat(children));
}

/** Set the text of `element` only where it differs, so that a live page does not disturb a selection. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A titled part of the page. */
export function section(title, { id, note } = {}, ...children) {
  const heading = h("h2", { id: `${id}-title` }, title);
  const head = h("div", { class: "card-head" }, heading, note ? h("p", { class: "note" }, note) : null);
  return h("section", { class: "card", id, "aria-labelledby": `${id}-title` }, head, children);
}

/** Run `action` at most once in `milliseconds`; the last call is never lost. */
export function throttled(milliseconds, action) {
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    action();
  };
  const call = () => {
    if (timer === null) timer = setTimeout(run, Math.max(0, last + milliseconds - performance.now()));
  };
  call.cancel = () => {
    clearTimeout(timer);
    timer = null;
  };
  return call;
}
