// The address map: a vertical strip, low addresses at the bottom.
//
// Ranges stand to scale among each other as far as the smallest can still be read; holes are folded.
import { attribute, cells, h, keyed, text } from "../shared/dom.js";
import { count, hex, many, rate, span, warmth } from "../shared/format.js";

const LEAST = 24; // pixels of a range that can be read
const FOLD = 20; // pixels of a folded hole
const ZOOMS = [1, 1.5, 2, 3, 5, 8];
const KINDS = { ram: "RAM", mmio: "device", "interrupt-controller": "interrupt controller", hole: "hole" };

export function map(context) {
  const strip = h("div", { class: "vml-strip", role: "group", "aria-label": "Address map, low addresses last" });
  const scroll = h("div", { class: "vml-strip-scroll", tabindex: "-1" }, strip);
  const ports = h("div", { class: "vml-ports", role: "group", "aria-label": "I/O ports" });
  const about = h("div", { class: "vml-about m", role: "status" });
  const body = h("tbody");
  const smaller = zoomer("−", "smaller", -1);
  const larger = zoomer("+", "larger", 1);
  const element = h("section", { class: "vml-card vml-map", "aria-label": "Address map" },
    h("div", { class: "vml-head" }, "Address map", h("span", { class: "vml-fill" }), smaller, larger),
    scroll, ports, about,
    h("details", { class: "vml-as-table" }, h("summary", {}, "as a table"),
      h("div", { class: "vml-scroll" }, h("table", { class: "vml-grid" },
        h("thead", {}, h("tr", {}, ...["from", "to", "size", "what", "irq", "traps"].map((name, index) =>
          h("th", { scope: "col", class: index === 2 || index > 3 ? "n" : null }, name)))), body))));
  let zoom = 0;
  let rows = [];
  let hovered = null;

  function zoomer(sign, what, step) {
    return h("button", {
      type: "button", class: "vml-zoom", title: `Draw the map ${what}`, "aria-label": `Draw the map ${what}`,
      onclick: () => {
        zoom = Math.min(Math.max(zoom + step, 0), ZOOMS.length - 1);
        layout();
        strip.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
      },
    }, sign);
  }

  function layout() {
    attribute(smaller, "disabled", zoom === 0);
    attribute(larger, "disabled", zoom === ZOOMS.length - 1);
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
    const button = h("button", { type: "button", class: `vml-range vml-${row.kind}` },
      h("span", { class: "vml-address m" }),
      h("span", { class: "vml-block" }, h("span", { class: "vml-heat" }), h("span", { class: "vml-name" }),
        h("span", { class: "vml-size soft" }), h("span", { class: "vml-rate" })));
    const show = () => { hovered = button.row; describe(); };
    const hide = () => { if (hovered === button.row) { hovered = null; describe(); } };
    button.addEventListener("pointerenter", show);
    button.addEventListener("pointerleave", hide);
    button.addEventListener("focus", show);
    button.addEventListener("blur", hide);
    button.addEventListener("click", () => button.row.device && context.select(button.row.name));
    return button;
  };

  const update = (button, row) => {
    button.row = row;
    const [address, block] = button.children;
    const [heat, name, size, speed] = block.children;
    const hole = row.kind === "hole";
    text(address, row.space === "port" ? hex(row.start) : hole ? "" : hex(row.start));
    text(name, hole ? `⋮ ${span(row.size)}` : row.name);
    text(size, hole || row.space === "port" ? "" : span(row.size));
    text(speed, row.rate ? `${rate(row.rate)}/s` : "");
    const warm = warmth(row.rate);
    heat.style.width = `${Math.round(warm * 100)}%`;
    attribute(button, "data-warm", warm > 0 ? "yes" : null);
    attribute(button, "aria-pressed", row.device ? String(row.name === context.selected) : null);
    attribute(button, "aria-label", sentence(row));
    attribute(button, "tabindex", hole ? "-1" : null);
  };

  function describe() {
    const row = hovered ?? [...rows, ...portRows].find((one) => one.device && one.name === context.selected);
    about.replaceChildren(...(row ? lines(row) : [h("span", { class: "soft" }, "point at a range")]));
  }

  let portRows = [];
  const watcher = new ResizeObserver(layout);
  watcher.observe(scroll);

  return {
    element,
    end: () => watcher.disconnect(),
    update(snapshot) {
      const devices = new Map((snapshot.devices ?? []).map((one) => [one.id, one]));
      rows = (snapshot.map ?? []).map((one) => ranged(one, devices.get(one.name))).reverse();
      portRows = [...devices.values()].filter((one) => one.space === "port").map((one) =>
        ranged({ start: one.base, end: one.base + one.size - 1, kind: "port", name: one.id }, one));
      keyed(strip, rows, (row) => row.key, make, update);
      keyed(ports, portRows, (row) => row.key, make, update);
      ports.hidden = !portRows.length;
      layout();
      describe();
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

function facts(row) {
  const found = [`${hex(row.start)} – ${hex(row.end)}`, `${row.name || KINDS[row.kind]}, ${span(row.size)} (${hex(row.size)})`];
  if (row.device) {
    const { reads, writes, kicks, irq } = row.device;
    found.push([irq === null ? "no irq" : `irq ${irq}`, many(reads, "read"), many(writes, "write"), ...(kicks ? [many(kicks, "kick")] : [])].join(" · "));
  }
  return found;
}

const lines = (row) => facts(row).map((line) => h("div", {}, line));
const sentence = (row) => facts(row).join("; ");
