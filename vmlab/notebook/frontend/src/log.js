// The view of its own: see parts/log.js.
import { view } from "./shared/frame.js";
import { log } from "./parts/log.js";
import style from "./parts/log.css";

export default view("log", style, (context) => log(context));
