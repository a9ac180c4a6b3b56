// The devices: who they are, how far the guest is with them, what they have seen, how fast.
import { attribute, h, keyed, svg, text } from "../shared/dom.js";
import { count, hex, many, rate } from "../shared/format.js";
import { registers } from "./registers.js";

const HEAD = [["device", "c-id"], ["type", "c-type"], ["window", "n c-window"], ["irq", "n c-irq"], ["state", "c-state"],
  ["reads", "n"], ["writes", "n"], ["kicks", "n c-kicks"], ["rate", "n"], ["last 15 s", "c-past"]];
const STATES = { added: "○", seen: "◐", driver_ok: "●", failed: "✕", removing: "◌" };

export function traps(context) {
  const body = h("tbody");
  const foot = h("span", { class: "vml-fill" });
  const element = h("section", { class: "vml-card vml-traps", "aria-label": "Devices" },
    h("div", { class: "vml-head" }, "Devices", foot),
    h("div", { class: "vml-scroll", tabindex: "-1" }, h("table", { class: "vml-grid" },
      h("thead", {}, h("tr", {}, ...HEAD.map(([name, kind]) => h("th", { scope: "col", class: kind || null }, name)))), body)));
  const open = new Set();
  const scroll = element.lastChild;
  let latest = null;
  let pointed = null;

  context.link.on("begin", tell);
  function tell() {
    context.link.send("open", { ids: [...open] });
  }
  function toggle(id) {
    if (!open.delete(id)) open.add(id);
    tell();
    draw();
  }

  const make = (item) => (item.inner ? makeInner() : makeRow(item.device.id));

  function makeRow(id) {
    const twist = h("button", { type: "button", class: "vml-twist", onclick: (event) => { event.stopPropagation(); toggle(id); } },
      h("span", { class: "vml-arrow", "aria-hidden": "true" }, "▸"), h("b", {}, id));
    const line = h("tr", { class: "vml-device", onclick: () => context.select(id) }, h("th", { scope: "row", class: "c-id" }, twist),
      ...HEAD.slice(1).map(([, kind]) => h("td", { class: kind || null })));
    line.cells[2].classList.add("m");
    const path = svg("path", { class: "vml-spark" });
    line.cells[9].append(svg("svg", { viewBox: "0 0 60 16", width: 60, height: 16, "aria-hidden": "true" }, path));
    return line;
  }

  function makeInner() {
    const part = registers();
    const line = h("tr", { class: "vml-inner" }, h("td", { colspan: HEAD.length }, part.element));
    line.vmlPart = part;
    return line;
  }

  function update(line, { device, inner }) {
    if (inner) return line.vmlPart.update(latest.registers?.[device.id]);
    const [first, type, window, irq, state, reads, writes, kicks, speed, past] = line.cells;
    const opened = open.has(device.id);
    attribute(first.firstChild, "aria-expanded", String(opened));
    attribute(first.firstChild, "title", `${opened ? "Close" : "Open"} the registers of ${device.id}`);
    attribute(line, "aria-selected", String(device.id === context.selected));
    attribute(line, "data-live", device.rate > 0 ? "yes" : null);
    text(type, device.type);
    attribute(type, "title", device.type);
    text(window, (device.space === "port" ? "port " : "") + hex(device.base));
    text(irq, device.irq ?? "");
    text(state, `${STATES[device.state] ?? "○"} ${device.state}`);
    attribute(state, "data-state", device.state);
    text(reads, count(device.reads));
    text(writes, count(device.writes));
    text(kicks, device.kicks ? count(device.kicks) : "");
    text(speed, `${rate(device.rate)}/s`);
    attribute(past.firstChild.firstChild, "d", bars(device.bars));
    return undefined;
  }

  function draw() {
    if (!latest) return;
    const devices = latest.devices ?? [];
    for (const id of open) if (!devices.some((one) => one.id === id) && devices.length) open.delete(id);
    const items = devices.flatMap((device) => [{ device }, ...(open.has(device.id) ? [{ device, inner: true }] : [])]);
    if (pointed !== context.selected) requestAnimationFrame(reveal);
    keyed(body, items, (item) => (item.inner ? "of " : "") + item.device.id, make, update);
    const [reads, writes] = latest.machine.unmapped ?? [0, 0];
    text(foot, reads || writes ? `${many(reads, "read")} and ${many(writes, "write")} hit nothing` : "");
  }

  // what was selected elsewhere is brought into sight; the notebook itself must not scroll for it
  function reveal() {
    pointed = context.selected;
    const row = body.querySelector("[aria-selected=true]");
    if (!row) return;
    const head = body.parentElement.tHead.offsetHeight;
    const above = row.offsetTop - head - scroll.scrollTop;
    const below = row.offsetTop + row.offsetHeight - scroll.scrollTop - scroll.clientHeight;
    if (above < 0) scroll.scrollTop += above;
    else if (below > 0) scroll.scrollTop += below;
  }

  return {
    element,
    update(snapshot) {
      latest = snapshot;
      draw();
    },
  };
}

function bars(values) {
  const top = Math.max(...values, 0);
  if (!top) return "M0 15.5H60";
  const step = 60 / values.length;
  return values.map((value, index) => {
    const height = value > 0 ? Math.max((value / top) * 15, 1) : 0;
    return height ? `M${(index * step).toFixed(1)} 16v-${height.toFixed(1)}h${(step - 0.5).toFixed(1)}V16z` : "";
  }).join("") + "M0 15.5H60v.5H0z";
}
