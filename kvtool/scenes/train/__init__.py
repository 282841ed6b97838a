"""Training of the demo model on scenes: `python -m kvtool.scenes.train OUT`."""
