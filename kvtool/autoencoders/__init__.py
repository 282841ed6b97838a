"""Sparse autoencoders (SAEs) of a language model's residual stream: one form for the files of eight
libraries. See docs/sae.md for the formats.
"""
