// How far the guest is with a device: the word, its mark, the steps to it. The same wherever it is shown.

const MARKS = { added: "○", seen: "◐", driver_ok: "●", failed: "✕", removing: "◌", fault: "✕" };
const STEPS = ["added", "seen", "driver_ok"];

// a device whose code raised: the guest waits at its access
export const stateOf = (device, machine) => (machine.fault === device.id ? "fault" : device.state);
export const mark = (state) => MARKS[state] ?? "○";

// [word, whether it is reached]; a device of no standard has a driver only where the guest says so
export function steps(state, type) {
  const reached = STEPS.indexOf(state);
  if (reached < 0) return [[state, true]];
  const most = type.startsWith("virtio") ? STEPS.length : Math.max(reached + 1, 2);
  return STEPS.slice(0, most).map((word, index) => [word, index <= reached]);
}
