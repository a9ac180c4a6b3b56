// What every view shares: its root with the style, the link, the selection, and what is said when the
// machine or the kernel is gone.
import { attribute, h, text } from "./dom.js";
import { Link } from "./link.js";
import base from "./base.css";

const SILENT = "No kernel answers: this is how it was.";
const RESTARTED = "The kernel was restarted, or this view was closed: run the cell again.";

// build(context) returns { element, update(snapshot), end() }
export function view(name, style, build) {
  return {
    render({ model, el }) {
      const root = h("div", { class: `vml vml-is-${name}`, "data-lm-suppress-shortcuts": "true" });
      const notice = h("div", { class: "vml-notice", role: "status", hidden: true });
      // keys that are meant for the view must not move the notebook's cells
      for (const kind of ["keydown", "keyup", "keypress"]) {
        root.addEventListener(kind, (event) => event.stopPropagation());
      }
      const context = new Context(model, root, notice);
      const part = build(context);
      root.append(h("style", {}, base + style), notice, part.element);
      el.replaceChildren(root);
      const stop = context.follow(part);
      return () => {
        stop();
        part.end?.();
        el.replaceChildren();
      };
    },
  };
}

class Context {
  constructor(model, root, notice) {
    this.model = model;
    this.root = root;
    this.notice = notice;
    this.selected = null;
    this.fromKernel = null;
    this.silent = false;
    this.link = new Link(model, root, () => this.lose(), (yes) => { this.silent = !yes; this.draw(); });
  }

  lose() {
    this.root.classList.add("vml-dead");
    this.say(RESTARTED);
  }

  say(words) {
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
      if (this.root.dataset.dark === wanted) return;
      this.root.dataset.dark = wanted;
      part.theme?.();
    };
    const themes = new MutationObserver(dark);
    for (const element of [document.body, document.documentElement]) {
      themes.observe(element, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-name"] });
    }
    // a theme's style sheet is loaded after its name is set
    const recheck = setInterval(dark, 2000);
    this.model.on("change:snapshot", this.draw);
    requestAnimationFrame(dark);
    this.apply(part);
    this.link.begin();
    return () => {
      cancelAnimationFrame(frame);
      clearInterval(recheck);
      themes.disconnect();
      this.model.off("change:snapshot", this.draw);
      this.link.end();
    };
  }

  apply(part) {
    const snapshot = this.model.get("snapshot") ?? {};
    if (!snapshot.machine) return;
    if (snapshot.selected !== this.fromKernel) {
      this.fromKernel = snapshot.selected;
      this.selected = snapshot.selected;
    }
    const gone = snapshot.machine.state === "gone";
    if (!this.link.dead) this.say(this.silent ? SILENT : gone ? "This VM is gone: nothing holds it any more." : "");
    this.root.classList.toggle("vml-gone", gone);
    attribute(this.root, "data-state", snapshot.machine.state);
    part.update(snapshot);
  }
}

// whether the page around is dark, by its colours: themes have many names
function darkness(element) {
  const colour = getComputedStyle(element).getPropertyValue("background-color");
  const parts = colour.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
  const scale = colour.startsWith("color(") ? 255 : 1;
  const light = (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) * scale;
  return light < 128 ? "yes" : "no";
}
