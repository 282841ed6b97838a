"""What kvtool costs on a GPU, in one script of eight minutes; see tests/bench/gpu/__main__.py."""
