// The dashboard: all views in one, so that it works wherever one widget does.
import xterm from "@xterm/xterm/css/xterm.css";
import { attribute, h } from "./shared/dom.js";
import { view } from "./shared/frame.js";
import { bar } from "./parts/bar.js";
import barStyle from "./parts/bar.css";
import { console_ } from "./parts/console.js";
import consoleStyle from "./parts/console.css";
import { hotplug } from "./parts/hotplug.js";
import hotplugStyle from "./parts/hotplug.css";
import { irq } from "./parts/irq.js";
import irqStyle from "./parts/irq.css";
import { log } from "./parts/log.js";
import logStyle from "./parts/log.css";
import { map } from "./parts/map.js";
import mapStyle from "./parts/map.css";
import { screen } from "./parts/screen.js";
import screenStyle from "./parts/screen.css";
import registersStyle from "./parts/registers.css";
import { traps } from "./parts/traps.js";
import trapsStyle from "./parts/traps.css";
import style from "./lab.css";

const styles = xterm + barStyle + consoleStyle + hotplugStyle + irqStyle + logStyle + mapStyle + registersStyle + screenStyle + trapsStyle + style;

export default view("lab", styles, (context) => {
  const panel = hotplug(context);
  panel.element.hidden = true;
  const fold = h("button", { type: "button", class: "vml-button vml-unfold", "aria-expanded": "false", onclick: () => {
    panel.element.hidden = !panel.element.hidden;
    attribute(fold, "aria-expanded", String(!panel.element.hidden));
  } }, "Hot-plug");
  const parts = { bar: bar(context, fold), map: map(context), traps: traps(context), irq: irq(context), panel, log: log(context, { folds: true }), screen: screen(context), console: console_(context) };
  const right = h("div", { class: "vml-right" }, panel.element, parts.traps.element, parts.irq.element, parts.log.element, parts.screen.element, parts.console.element);
  const element = h("div", { class: "vml-lab" }, parts.bar.element, h("div", { class: "vml-columns" }, parts.map.element, right));
  return {
    element,
    theme: () => parts.console.theme(),
    update(snapshot) {
      element.style.setProperty("--vml-height", `${snapshot.options?.height ?? 620}px`);
      for (const part of Object.values(parts)) part.update(snapshot);
    },
    end() {
      for (const part of Object.values(parts)) part.end?.();
    },
  };
});
