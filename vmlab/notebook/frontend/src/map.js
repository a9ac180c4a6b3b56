// The view of its own: see parts/map.js.
import { view } from "./shared/frame.js";
import { map } from "./parts/map.js";
import style from "./parts/map.css";

export default view("map", style, (context) => map(context));
