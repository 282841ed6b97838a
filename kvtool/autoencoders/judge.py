"""A judge of whether a description fits a text: a language model's yes or no, or answers that
somebody else wrote into a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.datasets.files import MAX_JSON_BYTES, read_text, split_lines
from kvtool.datasets.names import brief
from kvtool.digests import digest_texts
from kvtool.errors import DatasetError, ModelError
from kvtool.models.device import to_device
from kvtool.models.language import Language
from kvtool.outputs import write_output
from kvtool.stats.bootstrap import Array

PROMPT = (
    'A picture shows: "{text}" A feature is described as: "{description}" '
    "Does the description fit something that the picture shows? Answer yes or no."
)
_BATCH = 16
_PLAIN_END = "\nAnswer:"
"""What follows the question where the model has no chat template."""
_FORMS = ("{}", " {}")
_CASES = (str.lower, str.capitalize, str.upper)


class LanguageJudge:
    """Asks a language model whether descriptions fit texts.

    The answer is p(yes) / (p(yes) + p(no)) at the first token of the answer, over all ways in
    which the two words are written.
    """

    def __init__(self, language: Language) -> None:
        """Take a language model. Raises ModelError for one whose tokenizer has no yes or no."""
        self.language = language
        yes, no = (_first_tokens(language, word) for word in ("yes", "no"))
        # What both begin with, such as an unknown token, tells nothing.
        self._yes_ids, self._no_ids = sorted(yes - no), sorted(no - yes)
        if not self._yes_ids or not self._no_ids:
            raise ModelError(
                f"model {language.name}: expected a judge whose tokenizer has yes and no, found "
                "none; take another model"
            )

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """Return how surely each description fits its text, (pair,), for pairs (description,
        text).
        """
        prompts = [
            self._prompt_ids(PROMPT.format(text=text, description=description))
            for description, text in pairs
        ]
        shares = np.zeros(len(pairs))
        # Prompts of one length run together, so that none needs padding.
        order = sorted(range(len(pairs)), key=lambda index: len(prompts[index]))
        for _, group in groupby(order, key=lambda index: len(prompts[index])):
            indices = list(group)
            for start in range(0, len(indices), _BATCH):
                batch = indices[start : start + _BATCH]
                rows = [torch.tensor(prompts[index], dtype=torch.long) for index in batch]
                shares[batch] = self._shares(to_device(rows, self.language.device))
        return shares

    def _shares(self, ids: torch.Tensor) -> Array:
        """Return p(yes) / (p(yes) + p(no)) after prompts (row, token)."""
        last = self.language.n_layers - 1
        # The stream at the prompt's last token predicts the first of the answer.
        logits = self.language.logits(self.language.states(ids, [last])[0, :, -1])
        # What normalizes logits to log-probabilities cancels in the difference of the two.
        yes, no = (
            logits[:, ids_of_word].logsumexp(dim=1) for ids_of_word in (self._yes_ids, self._no_ids)
        )
        return np.asarray(torch.sigmoid(yes - no).cpu().numpy(), np.float64)

    def _prompt_ids(self, question: str) -> list[int]:
        """Return the token ids of a question up to where the answer begins."""
        tokenizer: Any = self.language.tokenizer
        # Some templates take parts, some plain text: the first that keeps the question counts.
        contents: list[Any] = [[{"type": "text", "text": question}], question]
        if getattr(tokenizer, "chat_template", None) is not None:
            for content in contents:
                try:
                    text = tokenizer.apply_chat_template(
                        [{"role": "user", "content": content}],
                        add_generation_prompt=True,
                        tokenize=False,
                    )
                except Exception:  # noqa: BLE001  a template may raise what any program raises
                    continue
                if question in text:
                    return self.language.token_ids(text)
        ids = self.language.token_ids(question + _PLAIN_END)
        return [*self.language.opening_ids, *ids]


class FileJudge:
    """Takes answers out of a JSON lines file, and collects the questions that have none.

    Attributes:
        answers: Id of a question -> the answer, from 0 (no) to 1 (yes).
        open: The questions that have no answer yet, in the order in which they came.
        skipped: One line for each answer that could not be read.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Read the answers of a file; there may be none yet. Raises DatasetError."""
        self.path = Path(path).expanduser()
        self.answers: dict[str, float] = {}
        self.open: dict[str, dict[str, Any]] = {}
        self.skipped: list[str] = []
        self._lines: list[str] = []
        if self.path.exists():
            self._read()

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """Return the answers for pairs (description, text), (pair,); NaN where there is none."""
        answers = np.full(len(pairs), np.nan)
        for index, (description, text) in enumerate(pairs):
            request = _request(description, text)
            if request["id"] in self.answers:
                answers[index] = self.answers[request["id"]]
            else:
                self.open.setdefault(request["id"], request)
        return answers

    def write(self) -> int:
        """Write the questions without an answer after the answers; return how many there are.

        Each is a line with `id`, `prompt`, `description`, `text` and an `answer` of null, to be
        replaced by "yes", "no" or a number from 0 to 1. Raises StoreError where the file cannot be
        written.
        """
        lines = [*self._lines, *(json.dumps(request) for request in self.open.values())]
        write_output(self.path, "".join(f"{line}\n" for line in lines).encode(), "judge")
        return len(self.open)

    def _read(self) -> None:
        for number, line in enumerate(split_lines(read_text(self.path, MAX_JSON_BYTES)), 1):
            if not line.strip():
                continue
            try:
                identity, answer = _answer(line)
            except DatasetError as error:
                self.skipped.append(f"{self.path}: line {number}: {error}")
                continue
            if answer is not None:  # a question without an answer is asked again
                self.answers[identity] = answer
                self._lines.append(line)


def _request(description: str, text: str) -> dict[str, Any]:
    """Return a question as it is written."""
    return {
        "id": digest_texts([description, text])[:16],
        "prompt": PROMPT.format(text=text, description=description),
        "description": description,
        "text": text,
        "answer": None,
    }


def _answer(line: str) -> tuple[str, float | None]:
    """Return the id and the answer of a line, None where it has none yet. Raises DatasetError."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"expected JSON, found: {brief(str(error), 100)}") from None
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise DatasetError(f"expected an object with an id, found {brief(record)}")
    answer = record.get("answer")
    if answer is None:
        return record["id"], None
    # Words as people type them, with a full stop or capitals.
    if isinstance(answer, str):
        word = answer.strip().strip(".!").lower()
        answer = {"yes": 1, "no": 0}.get(word, answer)
    if isinstance(answer, int | float) and 0 <= answer <= 1:
        return record["id"], float(answer)
    raise DatasetError(
        f"expected the answer yes, no or a number from 0 to 1, found {brief(answer)}"
    )


def _first_tokens(language: Language, word: str) -> set[int]:
    """Return the tokens with which a word may begin an answer."""
    unknown = getattr(language.tokenizer, "unk_token_id", None)
    forms = [form.format(case(word)) for form in _FORMS for case in _CASES]
    ids = [language.token_ids(form) for form in forms]
    return {item[0] for item in ids if item and item[0] != unknown}
