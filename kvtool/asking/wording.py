"""How a question is worded: as its benchmark has it, or as the common evaluators put it.

What they write was looked up in their repositories: `lmms_eval/tasks/{pope,mme,blink,cv_bench}` of
lmms-eval, and `vlmeval/vlm/llava/llava.py` and `vlmeval/dataset/image_yorn.py` of VLMEvalKit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from kvtool.datasets.base import Question
from kvtool.errors import UsageError

Style = Literal["plain", "lmms-eval", "vlmevalkit"]
YES_OR_NO = " Please answer yes or no."
"""The end of MME's questions."""
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
NOTE = "Note: You only need to respond with {} without providing any additional information.\n"


@dataclass(frozen=True)
class Wording:
    """How questions are worded.

    Args:
        style: "plain", the benchmark's own prompt; "lmms-eval" or "vlmevalkit", that of the
            evaluator (of VLMEvalKit the one for LLaVA's models).
        after_question: a text put after the whole prompt, on a line of its own.
    """

    style: str = "plain"
    after_question: str = ""

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise UsageError(f"style: expected {' or '.join(get_args(Style))}, found {self.style}")

    def prompt(self, question: Question) -> str:
        """Return the text that is put to the model."""
        text = question.prompt
        if self.style == "lmms-eval":
            text = _lmms_eval(question)
        elif self.style == "vlmevalkit":
            text = _vlmevalkit(question)
        return f"{text}\n{self.after_question}" if self.after_question else text

    def of(self, question: Question) -> Question:
        """Return the question with this wording's prompt."""
        return replace(question, prompt=self.prompt(question))

    def settings(self) -> dict[str, Any]:
        """Return what a result says of the wording."""
        return {"style": self.style, "after_question": self.after_question}


def _lmms_eval(question: Question) -> str:
    """Yes-or-no questions ask for a short answer; those with choices begin with a note."""
    if not question.choices:
        return question.prompt.strip().replace(YES_OR_NO, "") + SHORT
    letters = ", ".join(_letter(index) for index in range(len(question.choices)))
    # CV-Bench's questions, which say where their picture is from, have a line break more.
    return NOTE.format(letters) + ("\n" if question.source else "") + question.prompt


def _vlmevalkit(question: Question) -> str:
    """Choices are listed a line each; questions without are put as they are."""
    if not question.choices:
        return question.prompt
    options = (f"\n{_letter(index)}. {text}" for index, text in enumerate(question.choices))
    return question.text + "".join(options) + LETTER


def _letter(index: int) -> str:
    return chr(ord("A") + index)
