// How far the driver of a virtio device is: a list of steps, each with a mark and a word.
import { attribute, h, keyed, text } from "../shared/dom.js";

const MARKS = { done: "✓", missing: "✗", wrong: "✗", "not yet": "·" };

export function checklist() {
  const setup = h("ol", { "aria-label": "Set-up" });
  const request = h("ol", { "aria-label": "The last request" });
  const title = h("div", { class: "soft vml-steps-title" });
  const element = h("div", { class: "vml-steps", role: "group", "aria-label": "The driver's checklist", hidden: true },
    h("div", {}, h("b", {}, "The driver’s checklist")), title, setup, h("div", { class: "soft" }, "The last request"), request);

  const make = () => h("li", {}, h("span", { class: "vml-step-state" }), " ", h("b", {}), " ", h("span", { class: "soft vml-step-clause" }), h("div", { class: "vml-step-note" }));

  const update = (line, step) => {
    const [state, name, clause, note] = line.children;
    attribute(line, "data-state", step.state);
    text(state, `${MARKS[step.state] ?? "·"} ${step.state}`);
    text(name, step.step);
    text(clause, [step.clause.replace("virtio 1.2 ", ""), step.place].filter(Boolean).join(", "));
    attribute(clause, "title", step.clause);
    text(note, step.note);
    note.hidden = !step.note;
  };

  return {
    element,
    update(found) {
      element.hidden = !found;
      if (!found) return;
      text(title, found.title);
      keyed(setup, found.steps.filter((one) => !one.request), (one) => one.step, make, update);
      keyed(request, found.steps.filter((one) => one.request), (one) => one.step, make, update);
    },
  };
}
