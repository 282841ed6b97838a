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

export function decode(buffer, dtype) {
  if (dtype === "float32") return new Float32Array(buffer);
  const bits = new Uint16Array(buffer);
  if (dtype === "bfloat16") {
    // The upper half of a float32.
    const wide = new Uint32Array(bits.length);
    for (let i = 0; i < bits.length; i += 1) wide[i] = bits[i] << 16;
    return new Float32Array(wide.buffer);
  }
  const table = halfTable();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) values[i] = table[bits[i]];
  return values;
}

// The vectors of one head: (token, dim), row after row, brought to unit length when first used.
export class Block {
  constructor(values, tokens, dim) {
    this.values = values;
    this.tokens = tokens;
    this.dim = dim;
    this.isUnit = false;
  }

  unit() {
    if (this.isUnit) return this.values;
    const { values, tokens, dim } = this;
    for (let token = 0; token < tokens; token += 1) {
      const start = token * dim;
      let sum = 0;
      for (let i = start; i < start + dim; i += 1) sum += values[i] * values[i];
      // A vector of zeros has a cosine of 0 with everything.
      const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
      for (let i = start; i < start + dim; i += 1) values[i] *= scale;
    }
    this.isUnit = true;
    return values;
  }

  vector(token) {
    return this.unit().subarray(token * this.dim, (token + 1) * this.dim);
  }
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
  const values = block.unit();
  const { dim } = block;
  const map = new Float32Array(cells.length);
  for (let cell = 0; cell < cells.length; cell += 1) {
    const start = cells[cell] * dim;
    let sum = 0;
    for (let i = 0; i < dim; i += 1) sum += query[i] * values[start + i];
    map[cell] = sum;
  }
  return map;
}

export function strongest(map, count, omitted = -1) {
  // The cells of the highest values, the highest first.
  const order = Array.from(map.keys()).filter((cell) => cell !== omitted && map[cell] === map[cell]);
  order.sort((a, b) => map[b] - map[a] || a - b);
  return order.slice(0, count);
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
