// The devices: who they are, how far the guest is with them, what they have seen, how fast.
import { attribute, h, keyed, svg, text } from "../shared/dom.js";
import { Errands, usable } from "../shared/errands.js";
import { count, hex, many, rate } from "../shared/format.js";
import { roving } from "../shared/roving.js";
import { mark, stateOf } from "../shared/states.js";
import { registers } from "./registers.js";

const HEAD = [["device", "c-id"], ["type", "c-type"], ["window", "n c-window"], ["irq", "n c-irq"], ["state", "c-state"],
  ["reads", "n c-reads"], ["writes", "n c-writes"], ["kicks", "n c-kicks"], ["rate", "n c-rate"], ["last 15 s", "c-past"]];
// where there is no room for all columns these go, in this order; then a row becomes two lines
const DROPS = ["past", "type", "irq", "kicks", "window"];
const ITEMS = "button.vml-twist, .vml-fault button, .vml-registers";

export function traps(context) {
  const body = h("tbody");
  const foot = h("span", { class: "vml-fill" });
  const table = h("table", { class: "vml-grid" },
    h("thead", {}, h("tr", {}, ...HEAD.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), body);
  const scroll = h("div", { class: "vml-scroll", tabindex: "-1" }, table);
  const waiting = h("div", { class: "vml-waiting vml-soft-line", hidden: true });
  const element = h("section", { class: "vml-card vml-traps", "aria-label": "Devices" },
    h("div", { class: "vml-head" }, "Devices", foot), waiting, scroll);
  const open = new Set();
  const tidy = roving(element, ITEMS, keys);
  const errands = new Errands(context.link, "do", (words) => { text(waiting, words); waiting.hidden = !words; }, () => draw());
  let latest = null;
  let pointed = null;
  let failed = "";
  let fitted = "";

  context.link.on("begin", tell);
  function tell() {
    context.link.send("open", { ids: [...open] });
  }
  function toggle(id, yes = !open.has(id)) {
    if (yes === open.has(id)) return;
    if (yes) open.add(id);
    else open.delete(id);
    tell();
    draw();
  }

  // right opens, left closes, space selects; Enter does what a click does
  function keys({ key }, at) {
    const id = at.dataset.id;
    if (!id) return false;
    if (key === "ArrowRight" && !open.has(id)) toggle(id, true);
    else if (key === "ArrowLeft" && open.has(id)) toggle(id, false);
    else if (key === " ") context.select(id);
    else return false;
    return true;
  }

  const make = (item) => (item.inner ? makeInner() : item.fault ? makeFault(item.device.id) : makeRow(item.device.id));

  function makeRow(id) {
    const twist = h("button", { type: "button", class: "vml-twist", "data-id": id, "aria-keyshortcuts": "Space ArrowRight ArrowLeft",
      onclick: (event) => { event.stopPropagation(); toggle(id); } },
    h("span", { class: "vml-arrow", "aria-hidden": "true" }, "▸"), h("b", {}, id));
    const line = h("tr", { class: "vml-device", onclick: () => context.select(id) }, h("th", { scope: "row", class: "c-id" }, twist),
      ...HEAD.slice(1).map(([name, kind]) => h("td", { class: kind, "data-label": name })));
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

  // what the device's code raised, and what can be done about it
  function makeFault(id) {
    const button = (name, kind, fields, label) => {
      const one = h("button", { type: "button", class: "vml-button", "data-errand": name, "aria-label": label,
        onclick: () => usable(one) && errands.begin(name, kind, fields, waits) }, h("span"));
      return one;
    };
    return h("tr", { class: "vml-fault" }, h("td", { colspan: HEAD.length }, h("div", {}, h("span", { class: "vml-trouble" }),
      button(`retry ${id}`, "do", { action: "resume" }, `Retry the access to ${id}`),
      button(`replace ${id}`, "replace", { id }, `Replace ${id} with the newest class`))));
  }
  const waits = () => (latest.machine.busy ? `waits: the guest is ${latest.machine.busy}` : "waits for the machine's answer");

  function updateFault(line) {
    const [words, retry, replace] = line.firstChild.firstChild.children;
    text(words, latest.machine.reason.split("\n")[0]);
    errands.show(retry, retry.firstChild, retry.dataset.errand, ["Retry", "Retrying…"], !errands.running.size);
    errands.show(replace, replace.firstChild, replace.dataset.errand, ["Replace with the newest class", "Replacing…"], !errands.running.size);
  }

  function update(line, { device, inner, fault }) {
    if (inner) return line.vmlPart.update(latest.registers?.[device.id], device);
    if (fault) return updateFault(line);
    const [first, type, window, irq, state, reads, writes, kicks, speed, past] = line.cells;
    const opened = open.has(device.id);
    const word = stateOf(device, latest.machine);
    attribute(first.firstChild, "aria-expanded", String(opened));
    attribute(first.firstChild, "title", `${opened ? "Close" : "Open"} the registers of ${device.id}; Space selects it`);
    attribute(line, "aria-selected", String(device.id === context.selected));
    attribute(line, "data-live", device.rate > 0 ? "yes" : null);
    attribute(line, "data-fault", word === "fault" ? "yes" : null);
    text(type, device.type);
    attribute(type, "title", device.type);
    text(window, (device.space === "port" ? "port " : "") + hex(device.base));
    text(irq, device.irq ?? "");
    text(state, `${mark(word)} ${word}`);
    attribute(state, "data-state", word);
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
    const items = devices.flatMap((device) => [{ device },
      ...(latest.machine.fault === device.id ? [{ device, fault: true }] : []),
      ...(open.has(device.id) ? [{ device, inner: true }] : [])]);
    if (pointed !== context.selected) {
      pointed = context.selected;
      requestAnimationFrame(() => reveal("[aria-selected=true]"));
    }
    if (failed !== latest.machine.fault) {
      failed = latest.machine.fault;
      requestAnimationFrame(() => reveal(".vml-fault"));
    }
    keyed(body, items, (item) => (item.inner ? "of " : item.fault ? "fault of " : "") + item.device.id, make, update);
    const [reads, writes] = latest.machine.unmapped ?? [0, 0];
    text(foot, reads || writes ? `${many(reads, "read")} and ${many(writes, "write")} hit nothing` : "");
    tidy();
    // measured again only where a number has grown or a device has come
    const size = items.map(({ device, fault, inner }) => [device.id, device.state, fault, inner, ...[device.reads, device.writes, device.kicks, device.rate]
      .map((one) => count(one).length)].join()).join(";");
    if (size !== fitted) fit(size);
  }

  // nothing is cut: columns go until the rest has room
  function fit(size) {
    if (!scroll.clientWidth || !latest) return;
    fitted = size;
    table.className = "vml-grid";
    for (const name of [...DROPS, "", "fold"]) {
      if (table.offsetWidth <= scroll.clientWidth) return;
      if (name) table.classList.add(`vml-no-${name}`);
    }
  }
  const watcher = new ResizeObserver(() => fit(fitted));
  watcher.observe(scroll);

  // what was selected elsewhere, or has failed, is brought into sight; the notebook itself must not scroll for it
  function reveal(which) {
    const row = body.querySelector(which);
    if (!row) return;
    const head = body.parentElement.tHead.offsetHeight;
    const above = row.offsetTop - head - scroll.scrollTop;
    const below = row.offsetTop + row.offsetHeight - scroll.scrollTop - scroll.clientHeight;
    if (above < 0) scroll.scrollTop += above;
    else if (below > 0) scroll.scrollTop += below;
  }

  return {
    element,
    end() {
      watcher.disconnect();
      errands.end();
    },
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
