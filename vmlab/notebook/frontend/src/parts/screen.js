// A PC's text screen. Keys go to the guest as they go down and up, while the screen has the focus.
import { attribute, h, text } from "../shared/dom.js";
import { focused } from "../shared/roving.js";

const COLOURS = ["#000000", "#0000aa", "#00aa00", "#00aaaa", "#aa0000", "#aa00aa", "#aa5500", "#aaaaaa",
  "#555555", "#5555ff", "#55ff55", "#55ffff", "#ff5555", "#ff55ff", "#ffff55", "#ffffff"];
const READ = 3; // lines that are read out of one picture, the last that have changed

export function screen(context) {
  const { link } = context;
  const status = h("span", { class: "vml-fill" });
  // a way out, as the console's: from here Tab goes on and Shift+Tab goes back, past the keyboard
  const leave = h("button", { type: "button", class: "vml-leave", tabindex: "-1", title: "Tab is the guest's there: Ctrl-] first, then Tab or Shift+Tab" });
  const glass = h("div", { class: "vml-glass", role: "group" });
  const cursor = h("div", { class: "vml-cursor", "aria-hidden": "true", hidden: true });
  const keys = h("div", { class: "vml-keys", tabindex: "0", role: "application", "aria-label": "Keyboard of the guest: keys go to the text screen. Ctrl-] leaves" });
  const element = h("section", { class: "vml-card vml-text-screen", "aria-label": "Text screen", hidden: true },
    h("div", { class: "vml-head" }, "Text screen", status, leave), h("div", { class: "vml-crt" }, glass, keys));
  const typing = () => keys === focused(keys);
  const lines = [];
  let known = "";

  // --- what it shows -----------------------------------------------------------------------------
  function draw(shown) {
    while (lines.length < shown.lines.length) glass.append((lines[lines.length] = h("div", { class: "vml-cells" })));
    while (lines.length > shown.lines.length) lines.pop().remove();
    attribute(glass, "aria-label", `Text screen, ${lines.length} lines of 80`);
    const changed = [];
    shown.lines.forEach((runs, index) => {
      const line = lines[index];
      const mark = JSON.stringify(runs);
      if (line.vmlMark === mark) return;
      line.vmlMark = mark;
      const before = line.textContent;
      line.replaceChildren(...runs.map(([words, colour]) =>
        h("span", { style: `color:${COLOURS[colour & 15]};background:${COLOURS[colour >> 4]}` }, words)));
      if (line.textContent !== before) changed.push(line.textContent.trim());
    });
    if (cursor.parentNode !== glass) glass.append(cursor);
    cursor.hidden = !shown.cursor;
    if (shown.cursor) {
      const [row, column] = shown.cursor;
      cursor.style.left = `calc(6px + ${column}ch)`;
      cursor.style.top = `calc(6px + ${row * 1.2}em)`;
    }
    // who types here hears what comes of it; what changes beside is none of their business
    if (known && typing()) read(changed);
  }
  function read(changed) {
    for (const words of changed.filter(Boolean).slice(-READ)) context.speech.say(words);
  }

  // --- its keyboard ------------------------------------------------------------------------------
  const held = new Set();
  const send = (...struck) => link.send("keys", { keys: struck });
  function release() {
    if (held.size) send(...[...held].map((code) => [code, false]));
    held.clear();
  }
  keys.addEventListener("keydown", (event) => {
    if (event.metaKey) return; // the browser's
    event.preventDefault();
    if (event.ctrlKey && event.key === "]") return goOut();
    if (!event.code) return;
    say("");
    held.add(event.code);
    send([event.code, true]);
  });
  keys.addEventListener("keyup", (event) => {
    event.preventDefault();
    if (held.delete(event.code)) send([event.code, false]);
  });
  keys.addEventListener("focus", () => hint());
  keys.addEventListener("blur", () => { release(); hint(); });
  leave.addEventListener("click", () => keys.focus());
  leave.addEventListener("blur", () => { keys.tabIndex = 0; hint(); });
  function goOut() {
    release();
    keys.tabIndex = -1;
    leave.focus();
    hint("Tab or Shift+Tab goes on, Enter comes back");
    context.speech.say("Left the text screen. Tab or Shift+Tab goes on, Enter comes back.");
  }
  function hint(words) {
    text(leave, words ?? (typing() ? "Ctrl-] then Tab leaves" : "click to type"));
  }
  function say(words) {
    if (words) context.speech.say(words);
    text(status, words);
    status.classList.toggle("vml-trouble", Boolean(words));
  }
  link.on("trouble", ({ text: words, what }) => { if (what === "screen") say(words); });
  hint();

  return {
    element,
    update(snapshot) {
      const shown = snapshot.screen;
      element.hidden = !shown;
      const mark = shown ? JSON.stringify(shown) : "";
      if (shown && mark !== known) draw(shown);
      known = mark;
    },
    end: release,
  };
}
