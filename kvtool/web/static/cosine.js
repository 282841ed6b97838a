// Vectors of an image as they are stored, and their cosines.

let halves = null;

function halfTable() {
  // Every float16 as float32: browsers have no such numbers yet.
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits += 1) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) halves[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) halves[bits] = sign * fraction * 2 ** -24;
    else halves[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return halves;
}

// The vectors of one head as float32: (token, dim), row after row, and one over the length of each.
export class Block {
  constructor(values, scales, tokens, dim) {
    this.values = values;
    this.scales = scales;
    this.tokens = tokens;
    this.dim = dim;
  }

  // The unit vector of a token.
  vector(token) {
    const scale = this.scales[token];
    return this.values.subarray(token * this.dim, (token + 1) * this.dim).map((value) => value * scale);
  }
}

export function decode(buffer, dtype) {
  if (dtype === "float32") return new Float32Array(buffer);
  const bits = new Uint16Array(buffer);
  const values = new Float32Array(bits.length);
  if (dtype === "bfloat16") {
    // The upper half of a float32.
    const wide = new Uint32Array(values.buffer);
    for (let i = 0; i < bits.length; i += 1) wide[i] = bits[i] << 16;
  } else {
    const table = halfTable();
    for (let i = 0; i < bits.length; i += 1) values[i] = table[bits[i]];
  }
  return values;
}

// The blocks of an array (head, token, dim).
export function blocksOf(values, tokens, dim) {
  const scales = new Float64Array(values.length / Math.max(1, dim));
  for (let row = 0, i = 0; row < scales.length; row += 1) {
    let sum = 0;
    for (const stop = i + dim; i < stop; i += 1) sum += values[i] * values[i];
    // A vector of zeros has a cosine of 0 with everything; one that is not finite has none.
    scales[row] = sum === 0 ? 0 : 1 / Math.sqrt(sum);
  }
  return Array.from({ length: scales.length / Math.max(1, tokens) }, (_, head) => {
    const [start, stop] = [head * tokens, (head + 1) * tokens];
    return new Block(values.subarray(start * dim, stop * dim), scales.subarray(start, stop), tokens, dim);
  });
}

export function cellsOf(grid) {
  // The token of each cell, row by row; newline tokens between the rows are no cells.
  const [rows, cols] = grid.grid;
  const tokens = new Int32Array(rows * cols);
  for (let row = 0; row < rows; row += 1) {
    for (let col = 0; col < cols; col += 1) {
      tokens[row * cols + col] = grid.start + row * grid.row_stride + col;
    }
  }
  return tokens;
}

export function cosines(query, block, cells) {
  // The cosine of a unit vector with each cell of an image.
  const { dim, values, scales } = block;
  const map = new Float32Array(cells.length);
  for (let cell = 0; cell < cells.length; cell += 1) {
    const start = cells[cell] * dim;
    let sum = 0;
    for (let i = 0; i < dim; i += 1) sum += query[i] * values[start + i];
    map[cell] = sum * scales[cells[cell]];
  }
  return map;
}

export function strongest(map, count, omitted = -1) {
  // The cells of the highest values, the highest first; of equals the first.
  const best = [];
  for (let cell = 0; cell < map.length; cell += 1) {
    const value = map[cell];
    if (cell === omitted || value !== value) continue;
    if (best.length === count && value <= map[best[count - 1]]) continue;
    let at = best.length;
    while (at > 0 && map[best[at - 1]] < value) at -= 1;
    best.splice(at, 0, cell);
    if (best.length > count) best.pop();
  }
  return best;
}

export function limits(map, range, omitted = -1) {
  // What the two ends of the colors stand for.
  if (range === "full") return [-1, 1];
  let low = Infinity;
  let high = -Infinity;
  for (let cell = 0; cell < map.length; cell += 1) {
    if (cell === omitted || map[cell] !== map[cell]) continue;
    low = Math.min(low, map[cell]);
    high = Math.max(high, map[cell]);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}
