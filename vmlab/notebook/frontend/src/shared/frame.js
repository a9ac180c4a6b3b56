// What every view shares: its root with the style, the link, the selection, and what is said when the
// machine or the kernel is gone.
import { attribute, h, text } from "./dom.js";
import { Link } from "./link.js";
import { Speech } from "./speech.js";
import base from "./base.css";

const SILENT = "No kernel answers: this is how it was.";
const RESTARTED = "The kernel was restarted, or this view was closed: run the cell again.";
const GONE = "This VM is gone: nothing holds it any more.";
// views with a bar say there how the machine is
const BARRED = ["lab", "controls"];

// build(context) returns { element, update(snapshot), end() }
export function view(name, style, build) {
  return {
    render({ model, el }) {
      const root = h("div", { class: `vml vml-is-${name}`, role: "group", "data-lm-suppress-shortcuts": "true" });
      const notice = h("div", { class: "vml-notice", hidden: true });
      // keys that are meant for the view must not move the notebook's cells
      for (const kind of ["keydown", "keyup", "keypress"]) {
        root.addEventListener(kind, (event) => event.stopPropagation());
      }
      const context = new Context(model, root, notice, BARRED.includes(name));
      const part = build(context);
      root.append(h("style", {}, base + style), notice, part.element, context.speech.element);
      el.replaceChildren(root);
      const stop = context.follow(part);
      return () => {
        stop();
        part.end?.();
        context.speech.end();
        el.replaceChildren();
      };
    },
  };
}

class Context {
  constructor(model, root, notice, barred) {
    this.model = model;
    this.root = root;
    this.notice = notice;
    this.barred = barred;
    this.speech = new Speech();
    this.selected = null;
    this.fromKernel = null;
    this.silent = false;
    this.draw = () => {};
    this.link = new Link(model, root, () => this.draw(), (yes) => { this.silent = !yes; this.draw(); });
  }

  say(words) {
    if (words && words !== this.notice.textContent) this.speech.say(words);
    text(this.notice, words);
    this.notice.hidden = !words;
  }

  select(id) {
    if (id === this.selected) id = null;
    this.selected = id;
    this.link.send("select", { id: id ?? "" });
    this.draw();
  }

  follow(part) {
    let frame = 0;
    this.draw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        this.apply(part);
      });
    };
    const dark = () => {
      const wanted = darkness(this.root);
      const forced = FORCED.matches;
      if (this.root.dataset.dark === wanted && this.forced === forced) return;
      this.forced = forced;
      this.root.dataset.dark = wanted;
      part.theme?.();
    };
    // a theme's style sheet may come long after its name: the ground changes then, and that is a transition
    const changed = (event) => event.target === this.root && event.propertyName === "background-color" && dark();
    this.root.addEventListener("transitionend", changed);
    const themes = new MutationObserver(dark);
    for (const element of [document.body, document.documentElement]) {
      themes.observe(element, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-name"] });
    }
    FORCED.addEventListener("change", dark);
    this.link.onSeen = dark;
    this.model.on("change:snapshot", this.draw);
    requestAnimationFrame(dark);
    this.apply(part);
    this.link.begin();
    return () => {
      cancelAnimationFrame(frame);
      themes.disconnect();
      FORCED.removeEventListener("change", dark);
      this.root.removeEventListener("transitionend", changed);
      this.model.off("change:snapshot", this.draw);
      this.link.end();
    };
  }

  apply(part) {
    let snapshot = this.model.get("snapshot") ?? {};
    if (!snapshot.machine) return;
    if (this.link.dead || this.silent) snapshot = lifeless(snapshot, "lost");
    else if (snapshot.machine.state === "gone") snapshot = lifeless(snapshot, "gone");
    if (snapshot.selected !== this.fromKernel) {
      this.fromKernel = snapshot.selected;
      this.selected = snapshot.selected;
    }
    const { state } = snapshot.machine;
    this.say(this.words(snapshot.machine));
    this.root.classList.toggle("vml-dead", state === "lost" || state === "gone");
    attribute(this.root, "data-state", state);
    attribute(this.root, "data-fault", snapshot.machine.fault || null);
    attribute(this.root, "aria-label", `VM ${snapshot.machine.name}`);
    part.update(snapshot);
  }

  words({ state, reason, fault }) {
    if (state === "lost") return this.link.dead ? RESTARTED : SILENT;
    if (state === "gone") return GONE;
    const told = state === "stopped" || state === "crashed" || fault;
    return told && !this.barred ? `${state}${reason ? `: ${reason.split("\n")[0]}` : ""}` : "";
  }
}

const FORCED = window.matchMedia("(forced-colors: active)");

// what was there last, with nothing that looks alive
function lifeless(snapshot, state) {
  return {
    ...snapshot,
    machine: { ...snapshot.machine, state, rate: 0, exits: 0, fault: "", busy: "" },
    devices: snapshot.devices?.map((one) => ({ ...one, rate: 0 })),
    irqs: snapshot.irqs?.map((one) => ({ ...one, level: false })),
  };
}

// whether the page around is dark, by its colours: themes have many names
function darkness(element) {
  const colour = getComputedStyle(element).getPropertyValue("background-color");
  const parts = colour.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
  const scale = colour.startsWith("color(") ? 255 : 1;
  const light = (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) * scale;
  return light < 128 ? "yes" : "no";
}
