// Commands to the kernel, each with a button: what it says while it works, and what it waits for when that takes long.
import { attribute, text } from "./dom.js";

const LONG = 2000; // milliseconds after which it is said what one waits for

export class Errands {
  // what: the kind of message that ends one, "do" or "hotplug". tell(words): what is waited for, "" when nothing is.
  constructor(link, what, tell, draw) {
    Object.assign(this, { link, what, tell, draw, running: new Map() });
    link.on("done", (message) => this.ended(message));
    link.on("trouble", (message) => this.ended(message));
    // asked anew who we are: nothing of before is answered
    link.on("begin", () => this.clear());
  }

  // `waits()`: after a while, what for
  begin(name, kind, fields, waits) {
    if (this.running.has(name)) return;
    this.running.set(name, setInterval(() => this.tell(waits()), LONG));
    this.link.send(kind, { ...fields, of: name });
    this.draw();
  }

  ended({ what, of }) {
    if (what !== this.what || !this.running.has(of)) return;
    clearInterval(this.running.get(of));
    this.running.delete(of);
    if (!this.running.size) this.tell("");
    this.draw();
  }

  clear() {
    for (const timer of this.running.values()) clearInterval(timer);
    this.running.clear();
    this.tell("");
    this.draw();
  }

  // the button keeps the focus: a disabled one would lose it
  show(button, label, name, words, able = true) {
    const busy = this.running.has(name);
    text(label, busy ? words[1] : words[0]);
    attribute(button, "aria-busy", busy ? "true" : null);
    attribute(button, "aria-disabled", busy || !able ? "true" : null);
  }

  end() {
    for (const timer of this.running.values()) clearInterval(timer);
  }
}

export const usable = (button) => button.getAttribute("aria-disabled") !== "true";
