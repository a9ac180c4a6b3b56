// The view of its own: see parts/screen.js.
import { view } from "./shared/frame.js";
import { screen } from "./parts/screen.js";
import style from "./parts/screen.css";

export default view("screen", style, (context) => screen(context));
