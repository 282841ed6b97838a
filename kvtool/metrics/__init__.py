"""Metrics as the official evaluators define them, in NumPy. Scores are fractions, except MME's (percent, as published).

A metric is two functions: one gives per sampling unit (episode, image, pair, object, question) numbers that add up, the
other turns their sum into named scores. The score of a data set and every bootstrap resample of it are then the
same code: see `intervals`.
"""
