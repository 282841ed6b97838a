"""Training of the demo model on scenes: `python -m kvtool.demo.training OUT`."""
