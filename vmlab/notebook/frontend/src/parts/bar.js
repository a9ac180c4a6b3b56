// The bar: state, engine, uptime, exits and traps a second, and the buttons that make sense in this state.
import { attribute, h, keyed, svg, text } from "../shared/dom.js";
import { Errands, usable } from "../shared/errands.js";
import { age, rate } from "../shared/format.js";
import { focused, roving } from "../shared/roving.js";

// a shape each, so that no one needs the colour
const SHAPES = {
  created: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zm0 2a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z",
  running: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  paused: "M3 2.5h3.5v11H3zM9.500 2.500H13v11H9.500z",
  stopped: "M3 3h10v10H3z",
  crashed: "M8 1.500 15 14H1zM7.200 6v4h1.600V6zm0 5.200v1.600h1.600v-1.600z",
  busy: "M3 2h10v2.500L9.500 8l3.500 3.500V14H3v-2.500L6.500 8 3 4.500z",
  gone: "M3.500 2 8 6.500 12.500 2 14 3.500 9.500 8l4.500 4.500-1.500 1.500L8 9.500 3.500 14 2 12.500 6.500 8 2 3.500z",
};
const BUTTONS = {
  created: [["start", "Start"]],
  running: [["pause", "Pause"], ["reset", "Reset"], ["stop", "Stop"]],
  paused: [["resume", "Resume"], ["step", "Step"], ["reset", "Reset"], ["stop", "Stop"]],
  stopped: [["start", "Start again"]],
  crashed: [["start", "Start again"]],
};
const AFTER_A_FAULT = [["resume", "Retry"], ["replace", "Replace with the newest class"], ["reset", "Reset"], ["stop", "Stop"]];
const WORKING = {
  start: "Starting…", pause: "Pausing…", resume: "Resuming…", step: "Stepping…", reset: "Resetting…", stop: "Stopping…",
  replace: "Replacing…",
};
// what one waits for when nothing better is known
const WAITS = {
  start: "the machine is being built", pause: "a CPU has not left the guest yet", resume: "the machine has not answered yet",
  step: "the CPU has not done its step yet", reset: "a CPU or a device has not let go yet", stop: "the machine has not ended yet",
  replace: "the machine has not taken the new device yet",
};
const ICONS = {
  start: "M4 2.500v11l9-5.500z", resume: "M4 2.500v11l9-5.500z", pause: "M3.500 3H7v10H3.500zM9 3h3.500v10H9z",
  step: "M3 3v10l6-5zM10 3h2.500v10H10z", stop: "M3.500 3.500h9v9h-9z",
  replace: "M2 6h8V3l4 4.500-4 4.500V9H2z",
  reset: "M8 3a5 5 0 1 0 5 5h-2a3 3 0 1 1-3-3v2.500L12 4 8 .5z",
};

export function bar(context, extra) {
  const lamp = svg("path", { d: SHAPES.created });
  const word = h("b", { class: "vml-word" });
  const title = h("b", { class: "vml-title" });
  const name = h("span", { class: "vml-machine" });
  const engine = h("span", { class: "vml-engine soft" });
  const up = h("span", { class: "vml-up m" });
  const exits = h("span", { class: "vml-exits m", title: "how often a second a CPU left the guest" });
  const traps = h("span", { class: "vml-traps-rate m", title: "accesses to devices a second" });
  const buttons = h("span", { class: "vml-buttons", role: "toolbar", "aria-label": "Machine" }, extra);
  const reason = h("span", { class: "vml-reason" });
  const busy = h("span", { class: "vml-busy" });
  const said = h("span", { class: "vml-answer" });
  const waiting = h("span", { class: "vml-waiting" });
  const why = h("div", { class: "vml-why", hidden: true }, reason, busy, said, waiting);
  const trace = h("pre", { class: "m" });
  const details = h("details", { hidden: true }, h("summary", {}, "traceback"), trace);
  const element = h("section", { class: "vml-bar", "aria-label": "Controls" },
    h("div", { class: "vml-bar-row" },
      h("span", { class: "vml-state" }, svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, lamp), word),
      h("span", { class: "vml-what-runs" }, title, name, engine), h("span", { class: "vml-figures" }, up, h("span", { class: "vml-rates" }, exits, traps)), buttons),
    why, details);
  const tidy = roving(buttons, "button");
  let machine = {};
  let started = null; // where the clock would be at 0, by this page's time
  let before = "";
  let timer = 0;

  // each line of news is shown, and told once
  const put = (place, words, bad = false) => {
    if (words && words !== place.textContent && place !== busy) context.speech.say(words);
    text(place, words);
    place.classList.toggle("vml-trouble", bad);
    why.hidden = ![...why.children].some((one) => one.textContent);
  };
  const errands = new Errands(context.link, "do", (words) => put(waiting, words), () => draw());
  context.link.on("trouble", ({ text: words, what }) => { if (what === "do") put(said, words, true); });
  context.link.on("done", ({ text: words, what }) => { if (what === "do") put(said, words); });

  // the machine's age is told in its largest unit, so that an idle page has nothing to draw
  function tick() {
    clearTimeout(timer);
    const known = started !== null && machine.state !== "created";
    const seconds = known ? (alive() ? (performance.now() - started) / 1000 : machine.clock) : 0;
    text(up, known ? age(seconds) : "");
    if (!known || !alive() || !context.link.visible) return;
    timer = setTimeout(tick, seconds < 60 ? 1000 - (seconds % 1) * 1000 : 60_000 - (seconds % 60) * 1000);
  }
  const alive = () => machine.state === "running" || machine.state === "paused";

  function act(action) {
    put(said, "");
    const label = action === "replace" ? "Replace" : action[0].toUpperCase() + action.slice(1);
    const fields = action === "replace" ? { id: machine.fault } : { action };
    errands.begin(action, action === "replace" ? "replace" : "do", fields, () => `${label} waits: ${machine.busy ? `the guest is ${machine.busy}` : WAITS[action]}`);
  }
  const make = ([action]) => h("button", {
    type: "button", class: "vml-button", "data-action": action, onclick: ({ currentTarget }) => usable(currentTarget) && act(action),
  }, svg("svg", { viewBox: "0 0 16 16", width: 11, height: 11, "aria-hidden": "true" }, svg("path", { d: ICONS[action] })), h("span"));

  function wanted() {
    if (!machine.fault || machine.state !== "paused") return BUTTONS[machine.state] ?? [];
    return AFTER_A_FAULT;
  }

  function draw() {
    const at = focused(buttons);
    const held = buttons.contains(at) && at !== extra;
    keyed(buttons, wanted(), ([action, label]) => action + label, make, (button, [action, label]) => {
      // one command at a time; Stop is always there
      const able = action === "stop" || !errands.running.size;
      errands.show(button, button.lastChild, action, [label, WORKING[action]], able);
      attribute(button, "aria-label", action === "replace" ? `Replace ${machine.fault} with the newest class` : null);
    });
    tidy();
    // the button that was pressed may be gone: the keyboard stays here
    if (held && !buttons.contains(focused(buttons))) buttons.querySelector("button")?.focus();
  }

  return {
    element,
    end() {
      clearTimeout(timer);
      errands.end();
    },
    update({ machine: now, clock: seconds }) {
      machine = { ...now, clock: seconds };
      attribute(lamp, "d", (now.busy && SHAPES.busy) || SHAPES[now.state] || SHAPES.gone);
      attribute(element, "data-busy", now.busy ? "yes" : null);
      text(word, now.state === "lost" ? "no kernel" : now.state);
      const named = now.name !== now.kernel;
      text(title, named ? now.name : "");
      text(name, `${named ? " · " : ""}${now.kernel}, ${now.memory}, ${now.cpus} CPU${now.cpus > 1 ? "s" : ""}`);
      text(engine, now.engine ? ` · ${now.engine}${now.why ? `: ${now.why}` : ""}` : "");
      if (seconds !== context.seconds) {
        context.seconds = seconds;
        started = performance.now() - seconds * 1000;
      }
      attribute(up, "title", "since the start");
      tick();
      text(exits, now.state === "created" ? "" : `${rate(now.exits)} exits/s`);
      text(traps, now.state === "created" ? "" : `${rate(now.rate)} traps/s`);
      if (before && before !== now.state) {
        context.speech.say(`${now.name} is ${now.state}`);
        if (!said.classList.contains("vml-trouble")) put(said, "");
      }
      before = now.state;
      put(reason, now.reason === now.busy ? "" : now.reason.split("\n")[0], now.state === "crashed" || Boolean(now.fault));
      put(busy, now.busy);
      details.hidden = !now.traceback;
      text(trace, now.traceback);
      draw();
    },
  };
}
