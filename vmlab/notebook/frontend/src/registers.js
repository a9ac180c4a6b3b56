// One device's registers, as a view of its own.
import { h, text } from "./shared/dom.js";
import { hex } from "./shared/format.js";
import { view } from "./shared/frame.js";
import { registers } from "./parts/registers.js";
import style from "./parts/registers.css";

export default view("registers", style, () => {
  const title = h("span");
  const about = h("span", { class: "vml-fill" });
  const part = registers();
  const element = h("section", { class: "vml-card", "aria-label": "Registers" },
    h("div", { class: "vml-head" }, title, about), h("div", { class: "vml-scroll", tabindex: "-1" }, part.element));
  return {
    element,
    update({ id, devices, registers: all }) {
      const [device] = devices ?? [];
      text(title, `Registers of ${id}`);
      text(about, device ? `${device.type} at ${hex(device.base)}, ${device.state}` : "not plugged in any more");
      part.update(all?.[id]);
    },
  };
});
