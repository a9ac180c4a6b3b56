// The view of its own: see parts/hotplug.js.
import { view } from "./shared/frame.js";
import { hotplug } from "./parts/hotplug.js";
import style from "./parts/hotplug.css";

export default view("hotplug", style, (context) => hotplug(context));
