// Small helpers for elements. Whatever comes from the machine goes in as text, never as markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

// what has not changed is left alone: selections and screen readers notice every write
export function text(element, value) {
  const word = String(value);
  if (element.textContent !== word) element.textContent = word;
}

export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

// One child of `parent` for each item, in order; children of items that stay are kept.
export function keyed(parent, items, key, make, update) {
  const known = (parent.vmlChildren ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, child] of known) {
    if (wanted.has(name)) continue;
    child.remove();
    known.delete(name);
  }
  let before = null;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    if (!child) known.set(name, (child = make(item)));
    const next = before ? before.nextSibling : parent.firstChild;
    if (child !== next) parent.insertBefore(child, next);
    update(child, item);
    before = child;
  }
}

export function cells(row, values) {
  values.forEach((value, index) => text(row.cells[index], value));
}

export const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
