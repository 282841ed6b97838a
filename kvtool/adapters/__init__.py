"""Training of linear adapters between a frozen language model and a frozen vision tower."""
