// The view of its own: see parts/traps.js.
import { view } from "./shared/frame.js";
import registersStyle from "./parts/registers.css";
import { traps } from "./parts/traps.js";
import style from "./parts/traps.css";

export default view("traps", registersStyle + style, (context) => traps(context));
