// The interrupt lines as a row of lamps. A raised line glows for a moment; a flood glows steadily,
// since a flicker can be read by nobody and harms some.
import { attribute, h, keyed, text } from "../shared/dom.js";
import { count } from "../shared/format.js";
import { roving } from "../shared/roving.js";

const GLOW = 350; // milliseconds

export function irq(context) {
  const row = h("ul", { class: "vml-lamps" });
  const none = h("div", { class: "soft vml-empty" }, "no device holds a line");
  const element = h("section", { class: "vml-card vml-irqs", "aria-label": "Interrupt lines" },
    h("div", { class: "vml-head" }, "Interrupt lines"), row, none);
  const tidy = roving(row, "button");
  let known = new Map();

  const make = () => h("li", { class: "vml-lamp" }, h("button", { type: "button" },
    h("span", { class: "vml-bulb", "aria-hidden": "true" }),
    h("span", { class: "vml-line m" }), h("span", { class: "vml-holder" }), h("span", { class: "vml-raised m soft" })));

  const update = (item, line) => {
    const button = item.firstChild;
    const [, number, holder, raised] = button.children;
    const ids = line.device.split(", ");
    button.onclick = () => context.select(ids[0]);
    text(number, line.line);
    text(holder, line.device);
    text(raised, count(line.raised));
    attribute(item, "data-level", line.level ? "high" : "low");
    attribute(button, "aria-pressed", String(ids.includes(context.selected)));
    const delivered = line.delivered ? `, ${count(line.delivered)} delivered` : "";
    const words = `line ${line.line}, ${line.device}: ${count(line.raised)} raised${delivered}, level ${line.level ? "high" : "low"}`;
    attribute(button, "aria-label", words);
    attribute(button, "title", words);
    const before = known.get(line.line);
    if (before !== undefined && line.raised > before) glow(item);
  };

  function glow(item) {
    attribute(item, "data-glow", "yes");
    clearTimeout(item.vmlTimer);
    item.vmlTimer = setTimeout(() => attribute(item, "data-glow", null), GLOW);
  }

  return {
    element,
    update(snapshot) {
      const lines = snapshot.irqs ?? [];
      keyed(row, lines, (line) => line.line, make, update);
      none.hidden = lines.length > 0;
      tidy();
      known = new Map(lines.map((line) => [line.line, line.raised]));
    },
  };
}
