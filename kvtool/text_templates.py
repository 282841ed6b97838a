"""Templates of class names and expressions: what stands around such a text, and where it stands,
when a model runs it without an image.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvtool.errors import UsageError

NAME = "{}"
"""What a pattern has in the place of the text."""
DEFAULT = NAME
"""The text as it is, in the user's turn of the chat template."""
ALONE_PREFIX = "alone:"
BETWEEN = "|"
MOST_PATTERNS = 1000


@dataclass(frozen=True)
class TextTemplate:
    """Patterns that a text is put into; the vectors of all of them are averaged.

    is_alone: whether nothing but the tokenizer's start token, where it has one, stands before the
    text. Otherwise it stands in the user's turn of the chat template, after its opening.
    """

    patterns: tuple[str, ...]
    is_alone: bool = False

    @classmethod
    def parse(cls, template: str) -> TextTemplate:
        """Return the template of "{}", "a photo of a {}.", "a photo of a {}.|a drawing of a {}."
        or any of these after "alone:".

        Raises UsageError for a pattern that does not have {} once, and for too many.
        """
        is_alone = template.startswith(ALONE_PREFIX)
        patterns = tuple(template.removeprefix(ALONE_PREFIX).split(BETWEEN))
        for pattern in patterns:
            if pattern.count(NAME) != 1:
                raise UsageError(
                    f"text template: expected {NAME} once in each pattern, in the place of the "
                    f"text, found {pattern!r}; write e.g. 'a photo of a {{}}.'"
                )
        if len(patterns) > MOST_PATTERNS:
            raise UsageError(
                f"text template: expected {MOST_PATTERNS} patterns at most, found {len(patterns)}"
            )
        return cls(patterns, is_alone)

    def filled(self, text: str) -> list[str]:
        """Return the text in each pattern."""
        return [text.join(pattern.split(NAME)) for pattern in self.patterns]
