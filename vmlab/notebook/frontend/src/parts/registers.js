// The registers of one device, by name, with values that were read without a side effect.
import { attribute, h, keyed, text } from "../shared/dom.js";
import { count, hex, many } from "../shared/format.js";
import { checklist } from "./checklist.js";

const HEAD = [["register", ""], ["offset", "n r-offset"], ["access", "r-access"], ["value", "n"], ["reads", "n"], ["writes", "n"], ["last access", "r-last"]];

export function registers() {
  const body = h("tbody");
  const table = h("table", { class: "vml-grid vml-regs" },
    h("thead", {}, h("tr", {}, ...HEAD.map(([name, kind]) => h("th", { scope: "col", class: kind || null }, name)))), body);
  const more = h("div", { class: "vml-attributes" });
  const trouble = h("div", { class: "vml-trouble", hidden: true });
  const facts = h("div", { class: "vml-facts soft" });
  // it may scroll, and then a keyboard must come to it
  const driver = checklist();
  const element = h("div", { class: "vml-registers", role: "group", "aria-label": "Registers", tabindex: "0" }, trouble, facts,
    h("div", { class: "vml-beside" }, driver.element, h("div", { class: "vml-main" }, table, more)));

  const make = () => h("tr", {},
    h("td", {}, h("b", { class: "m" }), " ", h("span", { class: "soft vml-doc" }), h("div", { class: "vml-fields m soft" })),
    h("td", { class: "m n soft r-offset" }), h("td", { class: "soft r-access" }), h("td", { class: "m n" }),
    h("td", { class: "n" }), h("td", { class: "n" }), h("td", { class: "soft r-last" }));

  const update = (line, row) => {
    const [name, offset, access, value, reads, writes, last] = line.cells;
    text(name.children[0], row.name);
    text(name.children[1], row.doc);
    attribute(line, "title", row.spec ? `${row.doc} (${row.spec})` : row.doc);
    keyed(name.lastChild, row.fields, (bits) => bits.name, () => h("span"), (chip, bits) => {
      const where = bits.width === 1 ? `bit ${bits.low}` : `bits ${bits.low + bits.width - 1}:${bits.low}`;
      text(chip, bits.value === null ? bits.name : `${bits.name}=${bits.word || plain(bits.value)}`);
      attribute(chip, "title", `${where}${bits.doc ? `: ${bits.doc}` : ""}${bits.word ? ` (${bits.value})` : ""}`);
      attribute(chip, "data-set", bits.value && bits.value !== "0x0" ? "yes" : null);
    });
    text(offset, hex(row.offset));
    text(access, row.access);
    if (value.textContent.startsWith("0x") && row.value && value.textContent !== row.value) flash(value);
    text(value, row.value ?? "–");
    text(reads, row.reads ? count(row.reads) : "");
    text(writes, row.writes ? count(row.writes) : "");
    text(last, row.last);
  };

  return {
    element,
    // device: for what a narrow table has no column for
    update(found, device) {
      text(facts, device ? [device.type, hex(device.base), device.irq === null ? "no irq" : `irq ${device.irq}`, ...(device.kicks ? [many(device.kicks, "kick")] : [])].join(" · ") : "");
      facts.hidden = !device;
      const all = found ?? { rows: [], attributes: {}, trouble: "" };
      // a register file of which only some are there at a time has one name at several offsets
      keyed(body, all.rows, (row) => `${row.name} ${row.offset}`, make, update);
      const pairs = Object.entries(all.attributes);
      more.hidden = !pairs.length;
      keyed(more, pairs, ([name]) => name, () => h("span", { class: "m" }), (chip, [name, value]) => text(chip, `${name} = ${value}`));
      driver.update(all.checklist);
      text(trouble, all.trouble);
      trouble.hidden = !all.trouble;
    },
  };
}

// a field's value reads best as a number while it is small
const plain = (value) => (value.length <= 3 ? String(parseInt(value, 16)) : value);

function flash(cell) {
  attribute(cell, "data-new", "yes");
  clearTimeout(cell.vmlTimer);
  cell.vmlTimer = setTimeout(() => attribute(cell, "data-new", null), 700);
}
