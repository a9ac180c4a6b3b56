// The hot-plug panel: a form made from the device's constructor, and what is plugged in.
import { attribute, h, keyed, text } from "../shared/dom.js";
import { Errands, usable } from "../shared/errands.js";
import { hex } from "../shared/format.js";
import { mark, stateOf, steps } from "../shared/states.js";

const ABLE = ["created", "running", "paused"];
const SURE = 5000; // milliseconds in which a second press of Force counts

export function hotplug(context) {
  const { link } = context;
  const select = h("select", { "aria-label": "Device", onchange: () => fill() });
  const about = h("div", { class: "soft vml-what" });
  const fields = h("div", { class: "vml-form" });
  const id = h("input", { type: "text", size: "10", maxlength: "64", spellcheck: "false" });
  const label = h("span", {}, "Add");
  const add = h("button", { type: "submit", class: "vml-button", "data-errand": "add" }, label);
  const said = h("div", { class: "vml-said" });
  const waiting = h("div", { class: "vml-said vml-waiting" });
  const form = h("form", { onsubmit: submit }, h("div", { class: "vml-form" }, labelled("device", select)),
    fields, h("div", { class: "vml-form" }, labelled("id", id), add));
  const list = h("ul", { class: "vml-plugged" });
  const none = h("div", { class: "soft vml-empty" }, "nothing is plugged in");
  const element = h("section", { class: "vml-card vml-hotplug", "aria-label": "Hot-plug" },
    h("div", { class: "vml-head" }, "Hot-plug"), form, about, said, waiting, list, none);
  const errands = new Errands(link, "hotplug", (words) => text(waiting, words), () => latest && update(latest));
  let choices = [];
  let shown = "";
  let latest = null;
  let able = false;

  const chosen = () => choices.find((choice) => choice.name === select.value);

  function fill() {
    const one = chosen();
    attribute(id, "placeholder", one ? free(one.base) : "");
    const now = JSON.stringify(one ?? null);
    if (now === shown) return;
    shown = now;
    about.replaceChildren(...prose(one?.about ?? ""));
    fields.replaceChildren(...(one?.fields ?? []).map((field) => labelled(field.name, input(field))));
  }

  // the name that it gets when none is given
  function free(base) {
    const taken = new Set((latest?.devices ?? []).map((device) => device.id));
    let number = 0;
    while (taken.has(`${base}${number}`)) number += 1;
    return `${base}${number}`;
  }

  function submit(event) {
    event.preventDefault();
    if (!usable(add)) return;
    const options = {};
    for (const box of fields.querySelectorAll("input, select")) {
      options[box.name] = box.type === "checkbox" ? box.checked : box.value;
    }
    say("");
    errands.begin("add", "add", { name: select.value, id: id.value, options }, () => "Add waits: the guest has not answered yet");
  }

  function say(words, bad = false) {
    if (words) context.speech.say(words);
    text(said, words);
    said.classList.toggle("vml-trouble", bad);
  }
  link.on("added", ({ id: name }) => { say(`${name} is plugged in`); id.value = ""; context.select(name); });
  link.on("trouble", ({ text: words, what }) => { if (what === "hotplug") say(words, true); });

  function make(device) {
    const button = (name, words, act, kind = "") => h("button", { type: "button", class: `vml-button ${kind}`, "data-errand": `${name} ${device.id}`,
      onclick: ({ currentTarget }) => { if (usable(currentTarget)) act(currentTarget); } }, h("span", {}, words));
    const remove = (name, force) => {
      say("");
      errands.begin(`${name} ${device.id}`, "remove", { id: device.id, force }, () => `${words(name)} waits: ${device.id} is the guest's until its driver has let it go`);
    };
    const replace = () => {
      say("");
      errands.begin(`replace ${device.id}`, "replace", { id: device.id, panel: true }, () => `Replace waits: the machine has not taken the new ${device.id} yet`);
    };
    // it takes the device from under a driver that uses it: asked twice
    const force = (one) => {
      if (one.dataset.sure) {
        delete one.dataset.sure;
        remove("force", true);
      } else {
        one.dataset.sure = "yes";
        context.speech.say(`Force takes ${device.id} out under the guest. Press it again to do so.`);
        setTimeout(() => { delete one.dataset.sure; if (latest) update(latest); }, SURE);
      }
      update(latest);
    };
    return h("li", {}, h("b", { class: "vml-who" }), h("span", { class: "m soft" }), h("ol", { class: "vml-steps" }),
      button("remove", "Remove", () => remove("remove", false)), button("replace", "Replace", replace), button("force", "Force", force, "vml-danger"));
  }
  const words = (name) => name[0].toUpperCase() + name.slice(1);

  function updateItem(item, device) {
    const [who, where, list_, remove, replace, force] = item.children;
    const state = stateOf(device, latest.machine);
    text(who, device.id);
    text(where, `${device.type} ${hex(device.base)}${device.irq === null ? "" : ` irq ${device.irq}`}`);
    keyed(list_, steps(state, device.type), ([word]) => word, () => h("li"), (step, [word, done]) => {
      text(step, `${done ? (STEP_DONE[word] ?? "●") : "○"} ${word}`);
      attribute(step, "data-done", done ? "yes" : null);
      attribute(step, "data-bad", word === "failed" || word === "fault" ? "yes" : null);
    });
    const offer = (button, name, label_, title) => {
      errands.show(button, button.firstChild, `${name} ${device.id}`, [label_, `${words(name)}…`], able);
      attribute(button, "aria-label", `${label_} ${device.id}`);
      attribute(button, "title", title);
    };
    offer(remove, "remove", "Remove", `Ask the guest to let ${device.id} go`);
    offer(replace, "replace", "Replace", `Put the newest definition of its class in the place of ${device.id}`);
    offer(force, "force", force.dataset.sure ? "Really force out" : "Force", `Take ${device.id} out under the guest: a driver that uses it fails`);
  }

  function update(snapshot) {
    latest = snapshot;
    able = ABLE.includes(snapshot.machine.state);
    choices = snapshot.choices ?? [];
    keyed(select, choices, (choice) => `${choice.where} ${choice.name}`, (choice) => h("option", { value: choice.name }),
      (option, choice) => text(option, choice.where ? `${choice.name} (this notebook)` : choice.name));
    fill();
    const plugged = (snapshot.devices ?? []).filter((device) => !device.fixed);
    keyed(list, plugged, (device) => device.id, make, updateItem);
    none.hidden = plugged.length > 0;
    attribute(select, "disabled", !able);
    errands.show(add, label, "add", ["Add", "Adding…"], able);
  }

  return { element, update, end: () => errands.end() };
}

const STEP_DONE = Object.fromEntries(["failed", "removing", "fault"].map((word) => [word, mark(word)]));

function input(field) {
  if (field.kind === "bool") return h("input", { type: "checkbox", name: field.name, checked: field.default === "True" });
  if (field.choices?.length) {
    return h("select", { name: field.name }, ...field.choices.map((one) => h("option", { value: one, selected: one === field.default }, one)));
  }
  return h("input", {
    type: "text", name: field.name, size: field.kind === "int" ? 8 : 14, spellcheck: "false", disabled: !field.kind,
    value: field.filled || null, placeholder: field.required ? "needed" : field.default || "none", "data-kind": field.kind,
  });
}

// a docstring's `names` as code
const prose = (line) => line.split("`").map((piece, index) => (index % 2 ? h("code", {}, piece) : piece));

function labelled(name, box) {
  return h("label", {}, h("span", { class: "soft" }, name), box);
}
