// The serial console: a terminal that is fed as fast as it draws.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { h, text } from "../shared/dom.js";
import { count } from "../shared/format.js";
import { focused } from "../shared/roving.js";

const GATHER = 10; // milliseconds over which typed characters are gathered, after one that went at once
// Jupyter's server leaves Nagle's algorithm on: of what the kernel sends when a key arrives, the first
// frame goes out and the others, the echo among them, wait until it is acknowledged, which a browser puts
// off for 40 ms. Whatever it sends carries the acknowledgement; so a word follows after these milliseconds,
// unless the echo is there.
const NUDGES = [8, 18];
const PART = 8192; // characters typed in one message
const ACK_BYTES = 32768; // what was drawn is reported after so many bytes,
const ACK_AFTER = 1000; // or so many milliseconds: Jupyter remembers each message for hours

const DARK = ["#2e3436", "#ef5350", "#66bb6a", "#e6c64c", "#5c9ded", "#c586c0", "#4ec9c9", "#d3d7cf",
  "#7a7f82", "#ff8a80", "#8fe394", "#ffe082", "#90c2ff", "#e0a6e0", "#80e6e6", "#ffffff"];
const LIGHT = ["#24292e", "#b31d28", "#1e6b34", "#8a5a00", "#0550ae", "#7d3c98", "#0b6e75", "#57606a",
  "#57606a", "#cf222e", "#1a7f37", "#9a6700", "#0969da", "#8250df", "#117a84", "#24292e"];
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const COLOURS = [...NAMES, ...NAMES.map((name) => `bright${name[0].toUpperCase()}${name.slice(1)}`)];

const FORCED = window.matchMedia("(forced-colors: active)");

export function console_(context, { height, name } = {}) {
  const { link } = context;
  const title = !name || name === "com1" ? "Serial console" : `Console ${name}`;
  const status = h("span", { class: "vml-fill" });
  // a way out: from here Tab goes on and Shift+Tab goes back, past the terminal, which takes both for the guest
  const leave = h("button", { type: "button", class: "vml-leave", tabindex: "-1", title: "Tab in the terminal is the guest's: Ctrl-] first, then Tab or Shift+Tab" });
  const screen = h("div", { class: "vml-screen" });
  const element = h("section", { class: "vml-card vml-console", "aria-label": title },
    h("div", { class: "vml-head" }, title, status, leave), screen);
  if (height) element.style.height = `${height}px`;
  const terminal = new Terminal({
    convertEol: true, // bare-metal guests write line feeds alone
    cursorBlink: false, // nothing moves while the machine is idle
    screenReaderMode: true, scrollback: 5000, fontSize: 12, lineHeight: 1.15, theme: {},
    fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  let opened = false;
  let muted = 0;

  // --- output ----------------------------------------------------------------------------------
  let drawn = 0;
  let told = 0;
  let later = 0;
  const acknowledge = () => {
    clearTimeout(later);
    later = 0;
    if (drawn > told) link.send("drawn", { at: (told = drawn) });
  };
  link.on("begin", () => { terminal.reset(); drawn = told = 0; muted = Infinity; });
  link.on("replay", ({ at, end }) => { terminal.reset(); drawn = told = at; muted = end > at ? end : 0; });
  link.on("output", ({ at }, [data]) => {
    if (!data) return;
    nudges.forEach(clearTimeout);
    terminal.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), () => {
      drawn = at;
      if (drawn >= muted) muted = 0;
      if (drawn - told >= ACK_BYTES) acknowledge();
      else later ||= setTimeout(acknowledge, ACK_AFTER);
    });
  });
  link.on("skipped", ({ bytes, at }) => {
    terminal.write(`\r\n\x1b[7m ${count(bytes)} bytes came too fast to be shown \x1b[0m\r\n`);
    drawn = told = at;
  });
  link.on("trouble", ({ text: words, what }) => { if (!what) say(words); });

  function say(words) {
    if (words) context.speech.say(words);
    text(status, words);
    status.classList.toggle("vml-trouble", Boolean(words));
  }

  // --- input -----------------------------------------------------------------------------------
  let typed = "";
  let timer = 0;
  let last = 0;
  let nudges = [];
  const flush = () => {
    timer = 0;
    last = performance.now();
    for (; typed; typed = typed.slice(PART)) link.send("type", { text: typed.slice(0, PART) });
    nudges.forEach(clearTimeout);
    nudges = NUDGES.map((after) => setTimeout(() => link.send("alive"), after));
  };
  terminal.onData((data) => {
    // what the terminal answers to sequences of long ago is not typed again
    if (muted) return;
    say("");
    typed += data;
    const wait = GATHER - (performance.now() - last);
    if (wait <= 0) flush();
    else timer ||= setTimeout(flush, wait);
  });
  terminal.attachCustomKeyEventHandler((event) => {
    const control = event.ctrlKey || event.metaKey;
    if (event.ctrlKey && event.key === "]") {
      if (event.type === "keydown") goOut();
      return false;
    }
    // the browser copies what is selected, and pastes
    if (control && event.key.toLowerCase() === "c" && (terminal.hasSelection() || event.shiftKey)) return false;
    return !(control && event.key.toLowerCase() === "v");
  });
  const enter = () => terminal.focus();
  leave.addEventListener("click", enter);
  leave.addEventListener("blur", () => { if (terminal.textarea) terminal.textarea.tabIndex = 0; hint(); });
  function goOut() {
    terminal.textarea.tabIndex = -1;
    leave.focus();
    hint("Tab or Shift+Tab goes on, Enter comes back");
    context.speech.say("Left the terminal. Tab or Shift+Tab goes on, Enter comes back.");
  }
  function hint(words) {
    const inside = terminal.textarea && terminal.textarea === focused(terminal.textarea);
    text(leave, words ?? (inside ? "Ctrl-] then Tab leaves" : "click to type"));
  }
  hint();

  // --- size and colours ------------------------------------------------------------------------
  let sized = 0;
  const measure = () => {
    if (!opened || !screen.clientWidth || !screen.clientHeight) return;
    const size = fit.proposeDimensions();
    if (size?.cols > 1 && size?.rows > 1 && (size.cols !== terminal.cols || size.rows !== terminal.rows)) fit.fit();
  };
  terminal.onResize(({ cols, rows }) => {
    clearTimeout(sized);
    sized = setTimeout(() => link.send("resize", { columns: cols, rows }), 200);
  });
  const watcher = new ResizeObserver(() => {
    if (!opened && screen.isConnected && screen.clientWidth) {
      opened = true;
      terminal.open(screen);
      // the cursor is seen before one types: xterm.js draws none until its first focus
      if (terminal._core?.coreService) terminal._core.coreService.isCursorInitialized = true;
      // what the guest prints waits for its turn, as other news does
      screen.querySelector(".live-region")?.setAttribute("aria-live", "polite");
      for (const event of ["focus", "blur"]) terminal.textarea.addEventListener(event, () => hint());
      theme();
    }
    measure();
  });
  watcher.observe(screen);

  function theme() {
    const style = getComputedStyle(context.root);
    const dark = context.root.dataset.dark === "yes";
    const colour = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    const resolve = (value, fallback) => {
      const probe = h("span", { style: `color:${value}` });
      context.root.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found.startsWith("rgb") ? found : fallback;
    };
    const background = resolve(colour("--vml-raised"), dark ? "#111" : "#fff");
    const foreground = resolve(colour("--vml-text"), dark ? "#eee" : "#111");
    if (FORCED.matches) {
      // the colours of the reader's choice, and the guest's own none of them
      const [canvas, ink, chosen, onChosen] = ["Canvas", "CanvasText", "Highlight", "HighlightText"].map((name) => resolve(name, dark ? "#fff" : "#000"));
      const all = Object.fromEntries(COLOURS.map((name) => [name, ink]));
      terminal.options.theme = { ...all, black: canvas, background: canvas, foreground: ink, cursor: ink, cursorAccent: canvas,
        selectionBackground: chosen, selectionForeground: onChosen };
      return;
    }
    const palette = Object.fromEntries(COLOURS.map((name, index) => [name, (dark ? DARK : LIGHT)[index]]));
    terminal.options.theme = {
      ...palette, background, foreground, cursor: foreground, cursorAccent: background,
      scrollbarSliderBackground: "#88888844", scrollbarSliderHoverBackground: "#88888877",
      scrollbarSliderActiveBackground: "#888888aa", selectionBackground: dark ? "#3d6ea8" : "#b3d4fc",
    };
  }

  return {
    element,
    theme,
    update() {},
    end() {
      clearTimeout(later);
      clearTimeout(timer);
      nudges.forEach(clearTimeout);
      clearTimeout(sized);
      watcher.disconnect();
      terminal.dispose();
    },
  };
}
