// The view of its own: see parts/irq.js.
import { view } from "./shared/frame.js";
import { irq } from "./parts/irq.js";
import style from "./parts/irq.css";

export default view("irq", style, (context) => irq(context));
