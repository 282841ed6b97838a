"""The embedded world, the shipped demo models, how they were trained, and the study that runs all of it in a row."""
