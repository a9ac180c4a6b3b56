// What devices print, and what went wrong in them, when no cell runs that could show it.
import { attribute, h, keyed, text } from "../shared/dom.js";
import { count } from "../shared/format.js";

const KINDS = { print: "printed", mistake: "guest mistake", fault: "fault" };

// folds: hidden while there is nothing, and opened by the first line
export function log(context, { folds = false } = {}) {
  const list = h("ol", { class: "vml-entries" });
  const scroll = h("div", { class: "vml-scroll vml-log-scroll", tabindex: "0", role: "group", "aria-label": "Entries of the device log" }, list);
  const title = h("span");
  const fold = h("button", { type: "button", class: "vml-log-fold", "aria-expanded": "true", onclick: () => show(scroll.hidden) },
    h("span", { class: "vml-arrow", "aria-hidden": "true" }, "▸"), title);
  const none = h("div", { class: "soft vml-empty" }, "no device has printed anything, and nothing went wrong");
  const element = h("section", { class: "vml-card vml-log", "aria-label": "Device log" }, h("div", { class: "vml-head" }, fold), scroll, none);
  let known = null;

  function show(yes) {
    scroll.hidden = !yes;
    attribute(fold, "aria-expanded", String(yes));
  }

  const make = () => h("li", {}, h("span", { class: "m soft" }), h("b"), h("span", { class: "vml-kind" }), h("span", { class: "m vml-entry" }));
  const update = (line, entry) => {
    const [when, who, kind, what] = line.children;
    attribute(line, "data-kind", entry.kind);
    text(when, entry.time === null ? "" : `${entry.time.toFixed(1)} s`);
    text(who, entry.device);
    text(kind, KINDS[entry.kind] ?? entry.kind);
    text(what, entry.text);
  };

  return {
    element,
    update(snapshot) {
      const { total = 0, entries = [] } = snapshot.log ?? {};
      text(title, total ? `Device log · ${count(total)}` : "Device log");
      element.hidden = folds && !total;
      none.hidden = total > 0;
      // read back to the end, unless somebody has scrolled up to read
      const atEnd = scroll.scrollTop + scroll.clientHeight >= scroll.scrollHeight - 4;
      keyed(list, entries, (entry) => entry.number, make, update);
      if (total !== known && atEnd) scroll.scrollTop = scroll.scrollHeight;
      const last = entries.at(-1);
      if (known !== null && total > known && last && last.kind !== "print") context.speech.say(`${last.device}: ${last.text.split("\n")[0]}`);
      known = total;
    },
  };
}
