// Numbers as colors, and maps of them drawn a pixel a patch.

const STOPS = [
  "440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725",
].map((text) => [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16)));

function rampOf(color) {
  const ramp = new Uint8ClampedArray(256 * 3);
  for (let level = 0; level < 256; level += 1) ramp.set(color(level / 255), level * 3);
  return ramp;
}

function viridis(share) {
  const position = share * (STOPS.length - 1);
  const first = Math.min(Math.floor(position), STOPS.length - 2);
  return STOPS[first].map((start, i) => start + (position - first) * (STOPS[first + 1][i] - start));
}

const RAMPS = {
  viridis: rampOf(viridis),
  gray: rampOf((share) => [255 * share, 255 * share, 255 * share]),
};

export const COLORS = Object.keys(RAMPS);

// What a key changes of how numbers become colors; null for any other key.
export function lookBehind(key, { range, colors }) {
  if (key === "r") return { range: range === "auto" ? "full" : "auto" };
  if (key === "c") return { colors: COLORS[(COLORS.indexOf(colors) + 1) % COLORS.length] };
  return null;
}

function level(value, low, high) {
  return Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
}

export function colorOf(value, low, high, colors = "viridis") {
  const at = 3 * level(value, low, high);
  return `rgb(${RAMPS[colors].slice(at, at + 3).join(" ")})`;
}

export function inkOn(value, low, high, colors = "viridis") {
  const at = 3 * level(value, low, high);
  const [red, green, blue] = RAMPS[colors].slice(at, at + 3);
  return 0.3 * red + 0.59 * green + 0.11 * blue > 140 ? "#14181d" : "#ffffff";
}

export function gradient(colors) {
  const ramp = RAMPS[colors];
  const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255];
  return `linear-gradient(90deg, ${stops.map((at) => `rgb(${ramp.slice(3 * at, 3 * at + 3).join(" ")})`)})`;
}

export function paint(canvas, map, [rows, cols], [low, high], colors) {
  if (canvas.width !== cols || canvas.height !== rows) {
    canvas.width = cols;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(cols, rows);
  const ramp = RAMPS[colors];
  for (let cell = 0; cell < map.length; cell += 1) {
    const value = map[cell];
    // A number that is not finite has no color: the pixel stays transparent.
    if (value !== value) continue;
    const at = 3 * level(value, low, high);
    pixels.data[4 * cell] = ramp[at];
    pixels.data[4 * cell + 1] = ramp[at + 1];
    pixels.data[4 * cell + 2] = ramp[at + 2];
    pixels.data[4 * cell + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}
