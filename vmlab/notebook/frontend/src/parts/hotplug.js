// The hot-plug panel: a form made from the device's constructor, and what is plugged in.
import { attribute, h, keyed, text } from "../shared/dom.js";
import { hex } from "../shared/format.js";

const STEPS = ["added", "seen", "driver_ok"];
const ABLE = ["created", "running", "paused"];

export function hotplug(context) {
  const { link } = context;
  const select = h("select", { "aria-label": "Device", onchange: () => fill() });
  const about = h("div", { class: "soft vml-what" });
  const fields = h("div", { class: "vml-form" });
  const id = h("input", { type: "text", size: "8", placeholder: "by itself", spellcheck: "false" });
  const add = h("button", { type: "submit", class: "vml-button" }, "Add");
  const said = h("div", { class: "vml-said", role: "status" });
  const form = h("form", { onsubmit: submit }, h("div", { class: "vml-form" }, labelled("device", select)),
    fields, h("div", { class: "vml-form" }, labelled("id", id), add));
  const list = h("ul", { class: "vml-plugged" });
  const none = h("div", { class: "soft vml-empty" }, "nothing is plugged in");
  const element = h("section", { class: "vml-card vml-hotplug", "aria-label": "Hot-plug" },
    h("div", { class: "vml-head" }, "Hot-plug"), form, about, said, list, none);
  let choices = [];
  let shown = "";

  function fill() {
    const one = choices.find((choice) => choice.name === select.value);
    text(about, one?.about ?? "");
    const now = JSON.stringify(one ?? null);
    if (now === shown) return;
    shown = now;
    fields.replaceChildren(...(one?.fields ?? []).map((field) => {
      const box = field.kind === "bool"
        ? h("input", { type: "checkbox", name: field.name, checked: field.default === "True" })
        : h("input", {
          type: "text", name: field.name, size: field.kind === "int" ? 8 : 14, spellcheck: "false", disabled: !field.kind,
          placeholder: field.required ? "needed" : field.default || "none", "data-kind": field.kind,
        });
      return labelled(field.name, box);
    }));
  }

  function submit(event) {
    event.preventDefault();
    const options = {};
    for (const box of fields.querySelectorAll("input")) {
      options[box.name] = box.type === "checkbox" ? box.checked : box.value;
    }
    say("");
    attribute(add, "disabled", true);
    link.send("add", { name: select.value, id: id.value, options });
  }

  function say(words, bad = false) {
    text(said, words);
    said.classList.toggle("vml-trouble", bad);
  }
  link.on("added", ({ id: name }) => { say(`${name} is plugged in`); id.value = ""; context.select(name); });
  link.on("done", ({ what }) => { if (what === "hotplug") attribute(add, "disabled", null); });
  link.on("trouble", ({ text: words, what }) => {
    if (what && what !== "hotplug") return;
    attribute(add, "disabled", null);
    if (what) say(words, true);
  });
  link.on("begin", () => attribute(add, "disabled", null));

  const make = (device) => {
    const remove = (force) => () => { say(""); link.send("remove", { id: device.id, force }); };
    return h("li", {}, h("b", { class: "vml-who" }), h("span", { class: "m soft" }), h("ol", { class: "vml-steps" }),
      h("button", { type: "button", class: "vml-button", onclick: remove(false), title: "Ask the guest to let it go" }, "Remove"),
      h("button", { type: "button", class: "vml-button", onclick: remove(true), title: "Take it out under the guest" }, "Force"));
  };

  const update = (item, device) => {
    const [who, where, steps] = item.children;
    text(who, device.id);
    text(where, `${device.type} ${hex(device.base)}${device.irq === null ? "" : ` irq ${device.irq}`}`);
    const reached = STEPS.indexOf(device.state);
    const odd = reached < 0;
    const words = odd ? [device.state] : STEPS.slice(0, device.type.startsWith("virtio") ? 3 : 2);
    keyed(steps, words, (word) => word, () => h("li"), (step, word) => {
      const done = odd || STEPS.indexOf(word) <= reached;
      text(step, `${odd ? (word === "failed" ? "✕" : "◌") : done ? "●" : "○"} ${word}`);
      attribute(step, "data-done", done ? "yes" : null);
      attribute(step, "data-bad", word === "failed" ? "yes" : null);
    });
    for (const button of item.querySelectorAll("button")) attribute(button, "disabled", !able);
  };

  let able = false;
  return {
    element,
    update(snapshot) {
      able = ABLE.includes(snapshot.machine.state);
      choices = snapshot.choices ?? [];
      keyed(select, choices, (choice) => `${choice.where} ${choice.name}`, (choice) => h("option", { value: choice.name }),
        (option, choice) => text(option, choice.where ? `${choice.name} (this notebook)` : choice.name));
      fill();
      const plugged = (snapshot.devices ?? []).filter((device) => !device.fixed);
      keyed(list, plugged, (device) => device.id, make, update);
      none.hidden = plugged.length > 0;
      for (const box of form.querySelectorAll("select, #none")) attribute(box, "disabled", !able);
      if (!able) attribute(add, "disabled", true);
      else if (add.dataset.was === "no") attribute(add, "disabled", null);
      add.dataset.was = able ? "yes" : "no";
    },
  };
}

function labelled(name, box) {
  return h("label", {}, h("span", { class: "soft" }, name), box);
}
