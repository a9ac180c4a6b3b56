// The view of its own: see parts/bar.js.
import { view } from "./shared/frame.js";
import { bar } from "./parts/bar.js";
import style from "./parts/bar.css";

export default view("controls", style, (context) => bar(context));
