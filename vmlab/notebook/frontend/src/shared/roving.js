// One tab stop for a part: Tab comes to the part, arrow keys go about in it.

const FORWARD = ["ArrowDown", "ArrowRight"];
const BACK = ["ArrowUp", "ArrowLeft"];

// `selector`: what the arrows come to, in the page's order. Returns a function to call after the part was drawn.
// `keys(event, element)`: further keys; true when the event was one of them.
export function roving(part, selector, keys = () => false) {
  let current = null;
  const items = () => [...part.querySelectorAll(selector)].filter((one) => one.checkVisibility());

  function tidy() {
    const all = items();
    if (!all.includes(current)) current = all.find((one) => one.matches("[aria-pressed=true], [aria-selected=true] *")) ?? all[0] ?? null;
    for (const one of part.querySelectorAll(selector)) {
      const wanted = one === current ? "0" : "-1";
      if (one.getAttribute("tabindex") !== wanted) one.setAttribute("tabindex", wanted);
    }
  }

  part.addEventListener("focusin", (event) => {
    const found = event.target.closest(selector);
    if (!found || found === current) return;
    current = found;
    tidy();
  });
  part.addEventListener("keydown", (event) => {
    const at = event.target.closest?.(selector);
    if (!at || at !== event.target || event.ctrlKey || event.altKey || event.metaKey) return;
    if (keys(event, at)) return event.preventDefault();
    const step = FORWARD.includes(event.key) ? 1 : BACK.includes(event.key) ? -1 : 0;
    if ((!step && event.key !== "Home" && event.key !== "End") || scrolls(at, event.key)) return undefined;
    event.preventDefault();
    const all = items();
    const index = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : all.indexOf(at) + step;
    all[index]?.focus();
    return undefined;
  });
  return tidy;
}

// whether the key has something to scroll in the element that has the focus
function scrolls(element, key) {
  const { scrollTop, scrollLeft, scrollHeight, scrollWidth, clientHeight, clientWidth } = element;
  if (element.matches("button, summary")) return false;
  if (key === "ArrowUp") return scrollTop > 0;
  if (key === "ArrowLeft") return scrollLeft > 0;
  if (key === "ArrowDown") return scrollTop + clientHeight < scrollHeight - 1;
  return key === "ArrowRight" && scrollLeft + clientWidth < scrollWidth - 1;
}

// The element that has the focus, also where the page put us into a shadow tree.
export const focused = (element) => element.getRootNode().activeElement;
