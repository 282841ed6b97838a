"""kvtool: extract the image keys and values of multimodal language models once, analyse them from disk."""

__version__ = "0.1.0"
