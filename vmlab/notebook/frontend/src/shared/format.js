// Numbers as people read them; the same rules as the terminal's and the static views'.

// 0xd000_0000: groups of four digits
export function hex(value) {
  const digits = value.toString(16);
  return value > 0xffff ? "0x" + digits.replace(/\B(?=([0-9a-f]{4})+$)/g, "_") : "0x" + digits;
}

const SPANS = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];

export function span(size) {
  for (const [unit, step] of SPANS) {
    if (size < step) continue;
    const number = size / step;
    const exact = Number.isInteger(number) || number >= 100;
    return `${exact ? number.toFixed(0) : number.toFixed(1)} ${unit}`;
  }
  return `${size} B`;
}

// two digits: 0, 7, 42, 950, 1.2k, 38k, 1.1M
export function rate(value) {
  for (const [step, unit] of [[1e6, "M"], [1e3, "k"]]) {
    if (value < step) continue;
    const scaled = value / step;
    return (scaled < 9.95 ? scaled.toFixed(1) : scaled.toFixed(0)) + unit;
  }
  return value >= 1 || value === 0 ? value.toFixed(0) : value.toFixed(1);
}

export const count = (value) => value.toLocaleString("en-US");
export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

// 0:42, 3 min, 2 h 5 min: seconds only while they matter
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `0:${String(whole).padStart(2, "0")}`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// 0 to 1 for a rate: each factor of ten looks the same
export const warmth = (value) => (value > 0 ? Math.min(Math.log10(value + 1) / 4.5, 1) : 0);
