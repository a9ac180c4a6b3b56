// The view of its own: see parts/console.js.
import xterm from "@xterm/xterm/css/xterm.css";
import { view } from "./shared/frame.js";
import { console_ } from "./parts/console.js";
import style from "./parts/console.css";

export default view("console", xterm + style, (context) =>
  console_(context, { height: 360, ...context.model.get("snapshot")?.options }));
