// The bar: state, engine, uptime, exits and traps a second, and the buttons that make sense in this state.
import { attribute, h, keyed, svg, text } from "../shared/dom.js";
import { clock, rate } from "../shared/format.js";

// a shape each, so that no one needs the colour
const SHAPES = {
  created: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zm0 2a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z",
  running: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2z",
  paused: "M3 2.5h3.5v11H3zM9.500 2.500H13v11H9.500z",
  stopped: "M3 3h10v10H3z",
  crashed: "M8 1.500 15 14H1zM7.200 6v4h1.600V6zm0 5.200v1.600h1.600v-1.600z",
  gone: "M3.500 2 8 6.500 12.500 2 14 3.500 9.500 8l4.500 4.500-1.500 1.500L8 9.500 3.500 14 2 12.500 6.500 8 2 3.500z",
};
const BUTTONS = {
  created: [["start", "Start"]],
  running: [["pause", "Pause"], ["reset", "Reset"], ["stop", "Stop"]],
  paused: [["resume", "Resume"], ["step", "Step"], ["reset", "Reset"], ["stop", "Stop"]],
  stopped: [["start", "Start again"]],
  crashed: [["start", "Start again"]],
  gone: [],
};
const ICONS = {
  start: "M4 2.500v11l9-5.500z", resume: "M4 2.500v11l9-5.500z", pause: "M3.500 3H7v10H3.500zM9 3h3.500v10H9z",
  step: "M3 3v10l6-5zM10 3h2.500v10H10z", stop: "M3.500 3.500h9v9h-9z",
  reset: "M8 3a5 5 0 1 0 5 5h-2a3 3 0 1 1-3-3v2.500L12 4 8 .5z",
};

export function bar(context, extra) {
  const lamp = svg("path", { d: SHAPES.created });
  const word = h("b", { class: "vml-word" });
  const name = h("span", { class: "vml-machine" });
  const engine = h("span", { class: "vml-engine soft" });
  const up = h("span", { class: "vml-up m", title: "since the start" });
  const exits = h("span", { class: "vml-exits m", title: "how often a second a CPU left the guest" });
  const traps = h("span", { class: "vml-traps-rate m", title: "accesses to devices a second" });
  const buttons = h("span", { class: "vml-buttons", role: "group", "aria-label": "Machine" });
  const why = h("div", { class: "vml-why", role: "status", hidden: true });
  const trace = h("pre", { class: "m" });
  const details = h("details", { hidden: true }, h("summary", {}, "traceback"), trace);
  const element = h("section", { class: "vml-bar", "aria-label": "Controls" },
    h("div", { class: "vml-bar-row" },
      h("span", { class: "vml-state" }, svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, lamp), word),
      h("span", { class: "vml-what-runs" }, name, engine), h("span", { class: "vml-figures" }, up, h("span", { class: "vml-rates" }, exits, traps)), buttons, extra),
    why, details);
  const said = h("span");
  const reason = h("span");
  why.append(reason, said);
  let started = null; // where the clock would be at 0, by this page's time
  let running = false;
  let state = "";

  // what became of a button: its failure, or what there is to know beside the new state
  const say = (words, bad = false) => {
    text(said, words ? ` ${words}` : "");
    said.classList.toggle("vml-trouble", bad);
    why.hidden = !reason.textContent && !words;
  };
  context.link.on("trouble", ({ text: words, what }) => { if (what === "do") say(words, true); });
  context.link.on("done", ({ text: words, what }) => { if (what === "do") say(words); });

  const tick = () => { if (running && context.link.visible && started !== null) text(up, clock((performance.now() - started) / 1000)); };
  const timer = setInterval(tick, 1000);

  const make = ([action, label]) => h("button", {
    type: "button", class: "vml-button", "data-action": action,
    onclick: () => { say(""); context.link.send("do", { action }); },
  }, svg("svg", { viewBox: "0 0 16 16", width: 11, height: 11, "aria-hidden": "true" }, svg("path", { d: ICONS[action] })), h("span", {}, label));

  return {
    element,
    end: () => clearInterval(timer),
    update({ machine, clock: seconds }) {
      attribute(lamp, "d", SHAPES[machine.state] ?? SHAPES.created);
      text(word, machine.state);
      text(name, `${machine.name}, ${machine.memory}, ${machine.cpus} CPU${machine.cpus > 1 ? "s" : ""}`);
      text(engine, machine.engine ? ` · ${machine.engine}${machine.why ? `: ${machine.why}` : ""}` : "");
      attribute(name.parentElement, "title", name.textContent + engine.textContent);
      running = machine.state === "running" || machine.state === "paused";
      if (seconds !== context.seconds) {
        context.seconds = seconds;
        started = performance.now() - seconds * 1000;
      }
      text(up, machine.state === "created" ? "" : clock(running ? (performance.now() - started) / 1000 : seconds));
      text(exits, machine.state === "created" ? "" : `${rate(machine.exits)} exits/s`);
      text(traps, machine.state === "created" ? "" : `${rate(machine.rate)} traps/s`);
      keyed(buttons, BUTTONS[machine.state] ?? [], ([action, label]) => action + label, make, () => {});
      text(reason, machine.reason.split("\n")[0]);
      reason.classList.toggle("vml-trouble", machine.state === "crashed" || Boolean(machine.fault));
      if (state !== machine.state && !said.classList.contains("vml-trouble")) text(said, "");
      state = machine.state;
      why.hidden = !machine.reason && !said.textContent;
      details.hidden = !machine.traceback;
      text(trace, machine.traceback);
    },
  };
}
