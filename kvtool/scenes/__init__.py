"""The embedded world: coloured things with parts, drawn from a seed, and the language that speaks of them."""
