// Scores of kept probes. Numbers come as texts, as the terminal and the page write them.

// What a probe says of the blocks of a kind, of the decoder or as baselines.
export function scoresOf(probe, kind) {
  return [...probe.blocks, ...probe.baselines].filter((row) => row[0] === kind).map(
    ([, layer, head, value, text, interval, isWorse]) => ({ layer, head, value, text, interval, isWorse }));
}

// The lowest and the highest score, which the two ends of the colors stand for.
export function rangeOf(scores) {
  const values = scores.map((score) => score.value);
  const range = [Math.min(...values), Math.max(...values)];
  return range[0] === range[1] ? [range[0], range[0] + 1] : range;
}

export function withUnit(text, { unit }) {
  return unit ? `${text} ${unit}` : text;
}

// What knowing nothing gets in blocks of a kind, and whether a score is beyond it.
export function chanceOf(probe, kind, score) {
  const level = probe.chance[kind];
  if (!level) return "";
  const side = probe.higher_is_better ? "below" : "above";
  return `${level.name}: ${withUnit(level.text, probe)}${score?.isWorse ? `; this block is ${side} it` : ""}`;
}
