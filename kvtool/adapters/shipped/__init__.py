"""Training of the adapters that are shipped, on scenes of the embedded world."""
