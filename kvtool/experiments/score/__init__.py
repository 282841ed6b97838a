"""Scores of any tool's predictions by the official metrics: a file a benchmark."""
