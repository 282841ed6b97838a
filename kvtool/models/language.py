"""A language model read as text alone: the decoder of a multimodal model, or one that reads nothing
else.

Its residual stream at words is what sparse autoencoders were trained on, and what image tokens are
compared with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch

from kvtool.errors import ModelError, UsageError
from kvtool.models import load_model
from kvtool.models.cache import layer_outputs
from kvtool.models.causal import load_causal
from kvtool.models.device import to_device
from kvtool.models.families import FAMILIES
from kvtool.models.files import CONFIG, read_json
from kvtool.models.hub import resolve
from kvtool.models.loading import Checkpoint, ModelSettings, check_layers
from kvtool.types import Precision

TEXT_BATCH = 16
"""Texts of one length that run together."""
QUESTION = "KVTOOL-TEXT"
"""Stands for the user's words while a chat template is laid out."""
_PLURALS = ("", "s", "es")


@dataclass(frozen=True)
class TextStates:
    """The residual stream over one text, the tokens before it left out.

    Attributes:
        index: The text's place among those that were asked for.
        ids: Token ids of the text, (token,).
        states: (layer, token, hidden) in the model's precision.
    """

    index: int
    ids: list[int]
    states: torch.Tensor


@dataclass(frozen=True)
class Language:
    """A language model for texts alone.

    Attributes:
        name: As the user gave it.
        revision: A digest of its weights and settings.
        decoder: The transformers module without its head.
        head: What turns final states into logits over the vocabulary.
        tokenizer: Of transformers.
        device: Where it runs.
    """

    name: str
    revision: str
    decoder: Any
    head: Any
    tokenizer: Any
    device: torch.device

    @property
    def n_layers(self) -> int:
        """Return the number of decoder layers."""
        return len(self.decoder.layers)

    @property
    def hidden(self) -> int:
        """Return the width of the residual stream."""
        return int(self.decoder.config.hidden_size)

    @property
    def n_words(self) -> int:
        """Return the size of the vocabulary."""
        return int(self.head.weight.shape[0])

    @cached_property
    def opening_ids(self) -> tuple[int, ...]:
        """Return the token ids that stand before a text: how the chat template opens a user's turn,
        or the start token, or nothing where the tokenizer has neither.

        The first token of a prompt takes attention that nothing else wants, and its stream is like
        no other; so no text begins a prompt where that can be avoided.
        """
        # Where a template opens the turn, it writes the start token itself.
        return tuple(self.tokenizer(self._opening, add_special_tokens=not self._opening).input_ids)

    @cached_property
    def _opening(self) -> str:
        if getattr(self.tokenizer, "chat_template", None) is None:
            return ""
        # Templates take a message as parts or as one text.
        turns: list[Any] = [
            [{"type": "text", "text": QUESTION}],
            QUESTION,
        ]
        for content in turns:
            try:
                text: str = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}], tokenize=False
                )
            except Exception:  # noqa: BLE001  a template may raise what any program raises
                continue
            if QUESTION in text:
                return text.partition(QUESTION)[0]
        return ""

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the embeddings of token ids, as the first layer takes them."""
        embedded: torch.Tensor = self.decoder.get_input_embeddings()(ids)
        return embedded

    def token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without what stands before it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def word_positions(self, text: str, words: Sequence[str]) -> dict[str, list[int]]:
        """Return where words end in a text: word -> indices of their last tokens.

        Whole words count, in any case and in a simple plural; of several words in a row ("potted
        plant") the last token of the last one. Words that do not occur are left out.
        """
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in encoded.offset_mapping]
        positions: dict[str, list[int]] = {}
        # Words are found in the text, not among tokens, which may cut them anywhere.
        for word in words:
            forms = "|".join(re.escape(word + plural) for plural in _PLURALS)
            matches = re.finditer(rf"(?<!\w)(?:{forms})(?!\w)", text, re.IGNORECASE)
            # A token may hold more than the word's end, such as a full stop.
            tokens = [
                next(index for index, end in enumerate(ends) if end >= match.end())
                for match in matches
            ]
            if tokens:
                positions[word] = tokens
        return positions

    @torch.inference_mode()
    def states(self, ids: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
        """Return the outputs (layer, row, token, hidden) of decoder layers over token ids (row,
        token), before the final norm.

        Raises UsageError for a layer that the decoder lacks.
        """
        if outside := [layer for layer in layers if not 0 <= layer < self.n_layers]:
            raise UsageError(
                f"layers: expected numbers from 0 to {self.n_layers - 1}, found {outside[0]}"
            )
        with layer_outputs(self.decoder.layers, layers, stop=True) as outputs:
            self.decoder(input_ids=ids, use_cache=False)
        return torch.stack([outputs[layer].to(self.device) for layer in layers])

    @torch.inference_mode()
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return what the final norm and the head read in the outputs of any layer, (..., hidden):
        logits over the vocabulary, (..., vocabulary) in float32.
        """
        logits: torch.Tensor = self.head(self.decoder.norm(states)).float()
        # The cap is part of the head in models that have one.
        cap = getattr(self.decoder.config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def text_states(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        before_ids: Sequence[int] | None = None,
    ) -> Iterator[TextStates]:
        """Yield the stream over each text alone, those of equal length together; none is padded.

        What stands before a text is left out, and so is a text's first token where nothing stands
        before it. A text without a token yields no state.

        Args:
            texts: The texts.
            layers: Of the decoder.
            before_ids: What stands before each text; `opening_ids` by default.
        """
        return self.token_states([self.token_ids(text) for text in texts], layers, before_ids)

    def token_states(
        self,
        ids: Sequence[Sequence[int]],
        layers: Sequence[int],
        before_ids: Sequence[int] | None = None,
    ) -> Iterator[TextStates]:
        """Yield the stream over texts that are token ids already; see text_states."""
        before = list(self.opening_ids if before_ids is None else before_ids)
        # A first token with nothing before it is an outlier in every decoder: it is left out.
        start = max(1, len(before))
        # Texts of equal length run together, and nothing is padded.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        for _, group in groupby(order, key=lambda index: len(ids[index])):
            indices = list(group)
            for first in range(0, len(indices), TEXT_BATCH):
                batch = indices[first : first + TEXT_BATCH]
                rows = [torch.tensor([*before, *ids[index]], dtype=torch.long) for index in batch]
                if len(rows[0]) <= start:
                    continue
                states = self.states(to_device(rows, self.device), layers)[:, :, start:]
                for row, index in enumerate(batch):
                    text_ids = list(ids[index][start - len(before) :])
                    yield TextStates(index, text_ids, states[:, row])


def load_language(
    name: str, *, device: str = "cpu", dtype: Precision = "bfloat16", attention: str = "sdpa"
) -> Language:
    """Load a language model for texts alone.

    Args:
        name: Any multimodal model that load_model takes, of which the decoder is used; or a folder
            or hub id of a causal language model of transformers.
        device: cpu, cuda or cuda:N.
        dtype: The precision of the weights.
        attention: The attention backend, as in load_model.

    Raises ModelError where there is no such model or it reads no text, UsageError as load_model.
    """
    snapshot = resolve(name)
    config = read_json(snapshot.path / CONFIG)
    if str(config.get("model_type")) in FAMILIES.names():
        return _decoder_of(name, device, dtype, attention)
    check_layers(name, config)
    checkpoint = Checkpoint(snapshot, ModelSettings(device, dtype, attention), weights=True)
    network = load_causal(checkpoint)
    return Language(
        name=name,
        revision=snapshot.revision,
        decoder=network.get_decoder(),
        head=network.get_output_embeddings(),
        tokenizer=checkpoint.tokenizer(),
        device=checkpoint.device,
    )


def _decoder_of(name: str, device: str, dtype: Precision, attention: str) -> Language:
    """Return the decoder of a multimodal model. Raises ModelError for an encoder alone."""
    model: Any = load_model(name, device=device, dtype=dtype, attention=attention)
    if not hasattr(model, "language_model"):
        raise ModelError(
            f"model {name}: expected a language model, found an encoder alone, which reads no text"
        )
    return language_of(model, name)


def language_of(model: Any, name: str = "") -> Language:
    """Return the language model within a loaded multimodal one; no weight is loaded or copied.

    Args:
        model: A family's loaded model (kvtool.models.base.LanguageModel).
        name: As the user gave it, by default the model's own.
    """
    return Language(
        name=name or model.info.name,
        revision=model.info.revision,
        decoder=model.language_model,
        head=model.net.lm_head,
        tokenizer=model.prompt.tokenizer,
        device=model.checkpoint.device,
    )
