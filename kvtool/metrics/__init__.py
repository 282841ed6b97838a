"""Metrics as the official evaluators define them, in NumPy.

Scores are fractions, except MME's (percent, as published). A metric is two functions: the first
gives for each sampling unit (episode, image, pair, object, question) numbers that add up, and the
second turns their sum into named scores. The score of a data set and every bootstrap resample of it
are thus the same code, see `kvtool.stats.bootstrap`.
"""
