// What a screen reader is told: short news, at most one a second. Figures that run are not read out.
import { h } from "./dom.js";

const EVERY = 1000; // milliseconds
const MOST = 3; // pieces of news in one; the oldest is dropped

export class Speech {
  constructor() {
    this.element = h("div", { class: "vml-hidden vml-speech", role: "status" });
    this.news = [];
    this.timer = 0;
    this.last = -EVERY;
  }

  say(words) {
    if (!words || this.news.includes(words)) return;
    this.news = [...this.news, words].slice(-MOST);
    this.timer ||= setTimeout(() => this.speak(), Math.max(this.last + EVERY - performance.now(), 0));
  }

  speak() {
    this.timer = 0;
    this.last = performance.now();
    this.element.textContent = this.news.join(". ");
    this.news = [];
  }

  end() {
    clearTimeout(this.timer);
  }
}
