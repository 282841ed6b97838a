"""The questions that a page answers, in a reader's order; an experiment's article names its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """A question, under which the page has the results of some experiments.

    `brief` stands in the outline, `id` in links.
    """

    id: str
    title: str
    brief: str


VALUES = Chapter("values", "What do image values know of a picture?", "Image values")
ANSWERS = Chapter("answers", "Does the model say what its values know?", "Values and answers")
KEYS = Chapter("keys", "Which keys ignore the picture, and what do they do?", "Keys")
PREFIXES = Chapter("prefixes", "Does a text before the picture make values better?", "Prefixes")
MODELS = Chapter("models", "How do models and towers differ?", "Models")
LANGUAGE = Chapter("language", "Do image tokens mean what words mean?", "Words")
ATTENTION = Chapter("attention", "What do texts look at in a picture?", "Attention")
REMAINDER = Chapter("others", "Other results", "Others")
CHAPTERS = (VALUES, ANSWERS, KEYS, PREFIXES, MODELS, LANGUAGE, ATTENTION, REMAINDER)
