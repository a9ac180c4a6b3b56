// The address map: a vertical strip, low addresses at the bottom.
//
// Ranges stand to scale among each other as far as the smallest can still be read; holes are folded.
import { attribute, cells, h, keyed, text } from "../shared/dom.js";
import { count, hex, many, rate, span, warmth } from "../shared/format.js";
import { roving } from "../shared/roving.js";
import { mark, stateOf } from "../shared/states.js";

const LEAST = 24; // pixels of a range that can be read
const FOLD = 20; // pixels of a folded hole
const ZOOMS = [1, 1.5, 2, 3, 5, 8];
const KINDS = { ram: "RAM", mmio: "device", "interrupt-controller": "interrupt controller", hole: "hole" };

export function map(context) {
  const strip = h("div", { class: "vml-strip", role: "group", "aria-label": "Address map, low addresses last" });
  const scroll = h("div", { class: "vml-strip-scroll", tabindex: "-1" }, strip);
  const ports = h("div", { class: "vml-ports", role: "group", "aria-label": "I/O ports" });
  const about = h("div", { class: "vml-about m" });
  const legend = h("div", { class: "vml-legend soft" }, "accesses a second: 0", h("span", { class: "vml-scale", "aria-hidden": "true" }), "30k");
  const body = h("tbody");
  const smaller = zoomer("−", "smaller", -1);
  const larger = zoomer("+", "larger", 1);
  const element = h("section", { class: "vml-card vml-map", "aria-label": "Address map" },
    h("div", { class: "vml-head" }, h("span", { class: "vml-fill" }, "Address map"), smaller, larger),
    scroll, ports, about, legend,
    h("details", { class: "vml-as-table" }, h("summary", {}, "as a table"),
      h("div", { class: "vml-scroll" }, h("table", { class: "vml-grid" },
        h("thead", {}, h("tr", {}, ...["from", "to", "size", "what", "irq", "traps"].map((name, index) =>
          h("th", { scope: "col", class: index === 2 || index > 3 ? "n" : null }, name)))), body))));
  const tidy = roving(element, ".vml-range:not(.vml-hole), .vml-zoom, summary", keys);
  let zoom = 0;
  let machine = {};
  let rows = [];
  let hovered = null;

  function zoomer(sign, what, step) {
    return h("button", {
      type: "button", class: "vml-zoom", title: `Draw the map ${what}`, "aria-label": `Draw the map ${what}`,
      "aria-keyshortcuts": sign === "+" ? "+" : "-", onclick: () => enlarge(step),
    }, sign);
  }
  function enlarge(step) {
    zoom = Math.min(Math.max(zoom + step, 0), ZOOMS.length - 1);
    layout();
    strip.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
  }
  function keys({ key }) {
    if (key === "+" || key === "-") enlarge(key === "+" ? 1 : -1);
    return key === "+" || key === "-";
  }

  function layout() {
    attribute(smaller, "aria-disabled", zoom === 0 ? "true" : null);
    attribute(larger, "aria-disabled", zoom === ZOOMS.length - 1 ? "true" : null);
    const room = Math.max(scroll.clientHeight - 12, 180) * ZOOMS[zoom];
    const solid = rows.filter((row) => row.kind !== "hole");
    const least = LEAST * ZOOMS[zoom] ** 0.5;
    const fixed = solid.length * least + (rows.length - solid.length) * FOLD;
    const total = solid.reduce((sum, row) => sum + row.size, 0) || 1;
    const spare = Math.max(room - fixed, 0);
    for (const row of rows) {
      row.height = row.kind === "hole" ? FOLD : least + (spare * row.size) / total;
      const child = strip.vmlChildren?.get(row.key);
      if (child) child.style.height = `${Math.round(row.height)}px`;
    }
  }

  const make = (row) => {
    // RAM, holes and the engine's own controllers are to be looked at; a device can be selected
    const button = h(selectable(row) ? "button" : "div", { type: selectable(row) ? "button" : null, role: selectable(row) ? null : "img", class: `vml-range vml-${row.kind}` },
      h("span", { class: "vml-address m" }),
      h("span", { class: "vml-block" }, h("span", { class: "vml-heat" }), h("span", { class: "vml-name" }),
        h("span", { class: "vml-size soft" }), h("span", { class: "vml-rate" })));
    const show = () => { hovered = button.row; describe(); };
    const hide = () => { if (hovered === button.row) { hovered = null; describe(); } };
    button.addEventListener("pointerenter", show);
    button.addEventListener("pointerleave", hide);
    button.addEventListener("focus", show);
    button.addEventListener("blur", hide);
    if (selectable(row)) button.addEventListener("click", () => context.select(button.row.name));
    return button;
  };

  const update = (button, row) => {
    button.row = row;
    const [address, block] = button.children;
    const [heat, name, size, speed] = block.children;
    const hole = row.kind === "hole";
    text(address, row.space === "port" ? hex(row.start) : hole ? "" : hex(row.start));
    const failed = row.device && machine.fault === row.name;
    text(name, hole ? `⋮ ${span(row.size)}` : failed ? `${mark("fault")} ${row.name}` : row.name);
    attribute(button, "data-fault", failed ? "yes" : null);
    text(size, hole || row.space === "port" ? "" : span(row.size));
    text(speed, row.rate ? `${rate(row.rate)}/s` : "");
    const warm = warmth(row.rate);
    heat.style.width = `${Math.round(warm * 100)}%`;
    attribute(button, "data-warm", warm > 0 ? "yes" : null);
    attribute(button, "aria-pressed", selectable(row) ? String(row.name === context.selected) : null);
    attribute(button, "aria-label", sentence(row) + (failed ? "; its code failed here" : ""));
  };

  function describe() {
    const row = hovered ?? [...rows, ...portRows].find((one) => one.device && one.name === context.selected);
    const words = row ? facts(row, machine) : ["point at a range"];
    keyed(about, words.map((line, index) => [index, line]), ([index]) => index, () => h("div"), (line, [, one]) => text(line, one));
  }

  let portRows = [];
  const watcher = new ResizeObserver(layout);
  watcher.observe(scroll);

  return {
    element,
    end: () => watcher.disconnect(),
    update(snapshot) {
      machine = snapshot.machine;
      const devices = new Map((snapshot.devices ?? []).map((one) => [one.id, one]));
      rows = (snapshot.map ?? []).map((one) => ranged(one, one.kind === "mmio" ? devices.get(one.name) : undefined)).reverse();
      portRows = [...devices.values()].filter((one) => one.space === "port").map((one) =>
        ranged({ start: one.base, end: one.base + one.size - 1, kind: "port", name: one.id }, one));
      keyed(strip, rows, (row) => row.key, make, update);
      keyed(ports, portRows, (row) => row.key, make, update);
      ports.hidden = !portRows.length;
      layout();
      describe();
      tidy();
      keyed(body, rows, (row) => row.key, () => h("tr", {}, h("td", { class: "m" }), h("td", { class: "m" }),
        h("td", { class: "n" }), h("td"), h("td", { class: "n" }), h("td", { class: "n" })), (line, row) =>
        cells(line, [hex(row.start), hex(row.end), span(row.size), row.name || KINDS[row.kind],
          row.device?.irq ?? "", row.device ? count(row.device.reads + row.device.writes) : ""]));
    },
  };
}

function ranged(one, device) {
  return {
    ...one, device, size: one.end - one.start + 1, key: `${one.kind} ${one.start} ${one.end} ${one.name}`,
    rate: device?.rate ?? 0, space: device?.space ?? "mmio",
  };
}

function facts(row, machine) {
  const found = [`${hex(row.start)} – ${hex(row.end)}`, `${row.name || KINDS[row.kind]}, ${span(row.size)} (${hex(row.size)})`];
  if (row.device) {
    const { reads, writes, kicks, irq } = row.device;
    // the words that run: only where they are seen, a label is read out
    const state = machine ? [stateOf(row.device, machine)] : [];
    found.push([...state, irq === null ? "no irq" : `irq ${irq}`, many(reads, "read"), many(writes, "write"), ...(kicks ? [many(kicks, "kick")] : [])].join(" · "));
  }
  return found;
}

const selectable = (row) => row.kind === "mmio" || row.kind === "port";
const sentence = (row) => facts(row).join("; ");
