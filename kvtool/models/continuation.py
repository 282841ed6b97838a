"""Going on from a stored cache: [text before][image] from disk, then any text, without the image's
tower or pixels.

Image tokens never see what follows them, so that keys and values of one prefill serve every
question and condition: `restore` builds the cache from a run's arrays, `logits` and `generate` run
a text after it and leave it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import Any, ClassVar

import torch

from kvtool.errors import UsageError
from kvtool.models.base import BeforeDecoder
from kvtool.models.cache import fork, widened
from kvtool.models.device import to_device
from kvtool.models.prompt_cache import PromptCache
from kvtool.models.text_tree import TextTree
from kvtool.types import Sample

QUESTION_BATCH = 32
"""Questions about one image at a time: each takes a copy of the image's keys and values."""


class Continuation(PromptCache):
    """The half of a decoder family that needs no image. See kvtool.models.base.LanguageModel."""

    attends_both_ways: ClassVar[bool] = False
    """Whether tokens of an image see those of the same image that follow them."""
    both_ways_in_full_layers: ClassVar[bool] = True
    """Whether they do in layers without a sliding window, too."""
    logits_act: Callable[[torch.Tensor], torch.Tensor] | None = None
    """What is done with logits (row, ..., vocabulary) before anything is chosen by them; None where
    they are left as they are. See kvtool.models.intervention."""

    def text_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Rotary positions of text, from one number a token, (row, token)."""
        return positions

    def after_image(self, sample: Sample) -> torch.Tensor | None:  # noqa: ARG002
        """Embeddings (token, hidden) that stand between the image's stored tokens and the text that
        follows.
        """
        return None

    def after_images(self, samples: Sequence[Sample], text: torch.Tensor) -> torch.Tensor:
        """Embeddings (row, token, hidden) of text that follows images, with what `after_image` puts
        before it.
        """
        between = [row for row in map(self.after_image, samples) if row is not None]
        return torch.cat([torch.stack(between).to(text), text], dim=1) if between else text

    # Pieces that capture shares.

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings of token ids."""
        embedded: torch.Tensor = self.net.get_input_embeddings()(ids)
        return embedded

    def prompt_embeddings(self, samples: Sequence[Sample], tokens: torch.Tensor) -> torch.Tensor:
        """[prefix][image] as the decoder takes it, (image, token, hidden)."""
        ids = [torch.tensor(sample.prefix_ids, dtype=torch.long) for sample in samples]
        prefix = self.embed(to_device(ids, self.checkpoint.device))
        return torch.cat([prefix, tokens.to(prefix.dtype)], dim=1)

    def image_id(self) -> int:
        """Return the token id that stands in a prompt for each of an image's vectors."""
        return int(getattr(self.config, "image_token_id", None) or 0)

    def beside(self, ids: torch.Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Return what the decoder takes of token ids (row, token) beside their embeddings; those of
        an image are its placeholders.
        """
        return {}

    def run(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor | None,
        cache: Any,
        **beside: Any,
    ) -> torch.Tensor:
        """Return the decoder's last hidden states, (row, token, hidden); the cache grows."""
        states: torch.Tensor = self.language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **beside,
        ).last_hidden_state
        return states

    def run_prompts(
        self,
        samples: Sequence[Sample],
        before: BeforeDecoder,
        cache: Any,
        following: Sequence[int] = (),
    ) -> torch.Tensor:
        """Run the decoder over [prefix][image] of a batch, and token ids that follow in each.

        Returns the last hidden states (image, token, hidden); the cache grows.
        """
        assert before.tokens is not None, "what enters the decoder was asked for"
        embeddings, positions = (
            self.prompt_embeddings(samples, before.tokens),
            self.positions(samples),
        )
        if following:
            ids = torch.tensor(following, device=embeddings.device).expand(len(samples), -1)
            text = self.after_images(samples, self.embed(ids))
            embeddings = torch.cat([embeddings, text], dim=1)
            if positions is not None:
                next_positions = torch.tensor([[sample.next_position] for sample in samples])
                counted = next_positions + torch.arange(text.shape[1])
                text_positions = self.text_positions(counted.to(positions.device))
                positions = torch.cat([positions, text_positions], dim=-1)
        return self.run(embeddings, positions, cache)

    # The cache up to the image.

    def question(self, text: str) -> str:
        """See LanguageModel.question."""
        return self.prompt.question(text)

    # What follows.

    @torch.inference_mode()
    def logits(
        self, cache: Any, samples: Sequence[Sample], text: str | Sequence[str], last: bool = False
    ) -> torch.Tensor:
        """See LanguageModel.logits; a float32 tensor on the CPU."""
        states = self._follow(fork(cache), samples, self._text_ids(samples, text))
        states = states[:, -1] if last else states
        return self.head(states).float().cpu()

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits (..., vocabulary) of last hidden states, in the model's precision."""
        logits: torch.Tensor = self.net.lm_head(states)
        cap = getattr(self.language_model.config, "final_logit_softcapping", None)
        logits = cap * torch.tanh(logits / cap) if cap else logits
        return logits if self.logits_act is None else self.logits_act(logits)

    @torch.inference_mode()
    def generate(
        self,
        cache: Any,
        samples: Sequence[Sample],
        text: str | Sequence[str],
        max_new_tokens: int = 32,
    ) -> list[str | None]:
        """See LanguageModel.generate."""
        ends = self._end_ids()
        # A copy that grows: the cache itself serves the next question.
        grown = fork(cache)
        ids = self._text_ids(samples, text)
        answers: list[list[int]] = [[] for _ in samples]
        open_rows = set(range(len(samples)))
        undecided = set[int]()
        for _ in range(max_new_tokens):
            states = self._follow(grown, samples, ids)
            logits = self.head(states[:, -1])
            ids = logits.argmax(dim=-1, keepdim=True)
            # The largest of logits that are not all finite says nothing, though argmax names one.
            finite = logits.isfinite().all(dim=-1)
            undecided |= open_rows & set(finite.logical_not().nonzero()[:, 0].tolist())
            open_rows -= undecided
            for row, token in enumerate(ids[:, 0].tolist()):
                if token in ends:
                    open_rows.discard(row)
                elif row in open_rows:
                    answers[row].append(token)
            if not open_rows:
                break
        return [
            None
            if row in undecided
            else self.prompt.tokenizer.decode(answer, skip_special_tokens=True).strip()
            for row, answer in enumerate(answers)
        ]

    def ask(
        self, cache: Any, sample: Sample, texts: Sequence[str], max_new_tokens: int = 32
    ) -> list[str | None]:
        """See LanguageModel.ask."""
        answers: list[str | None] = [None] * len(texts)
        # Equal lengths run together: nothing is padded, so that answers do not depend on others.
        for rows in equal_batches([len(self.prompt.text_ids(text)) for text in texts]):
            copies = widened(cache, len(rows))
            batch_answers = self.generate(
                copies, [sample] * len(rows), [texts[i] for i in rows], max_new_tokens
            )
            for i, answer in zip(rows, batch_answers, strict=True):
                answers[i] = answer
        return answers

    @torch.inference_mode()
    def log_probabilities(
        self, cache: Any, samples: Sequence[Sample], turn: str, options: Sequence[str]
    ) -> list[float] | None:
        """Return the log-probability of each option as what follows a turn, from a cache of one
        row, which stays as it was; None where a logit is not finite.
        """
        options_ids = [self.prompt.text_ids(turn + option) for option in options]
        # Where a tokenizer joins the end of the turn with an option's beginning, all options are
        # scored from there on: from the first token that is not the turn's in each of them.
        turn_ids = self.prompt.text_ids(turn)
        start = min(_n_shared(turn_ids, ids) for ids in options_ids)
        scores = []
        for ids in options_ids:
            row = to_device([torch.tensor(ids)], self.checkpoint.device)
            states = self._follow(fork(cache), samples, row)
            # The logits at a token are of the one behind it: from the last shared token on.
            logits = self.head(states[0, start - 1 : -1]).float()
            if not logits.isfinite().all():
                return None
            following = logits.log_softmax(dim=-1).gather(1, row[0, start:, None])
            scores.append(float(following.double().sum()))
        return scores

    @torch.inference_mode()
    def follow_tree(self, cache: Any, sample: Sample, tree: TextTree) -> torch.Tensor:
        """See LanguageModel.follow_tree."""
        ids = tree.ids[None].to(self.checkpoint.device)
        embeddings = self.after_images([sample], self.embed(ids))
        # Positions go by depth in the tree: siblings stand at the same place.
        counted = sample.next_position + tree.depths[None]
        positions = self.text_positions(counted.to(self.checkpoint.device))
        states = self.run(embeddings, positions, fork(cache), **self.beside(ids))
        return states[:, tree.ends.to(states.device)]

    def image_end(self, sample: Sample) -> int:
        """See LanguageModel.image_end."""
        between = self.after_image(sample)
        return sample.image_start + sample.n_tokens + (0 if between is None else len(between))

    def _follow(self, cache: Any, samples: Sequence[Sample], ids: torch.Tensor) -> torch.Tensor:
        """Run token ids (row, token) after a cache, which grows; their last hidden states (row,
        token, hidden).
        """
        embeddings = self.embed(ids)
        seen = cache.get_seq_length()
        # Right after the image comes what the model puts there itself, once.
        since_image = [seen - sample.image_start - sample.n_tokens for sample in samples]
        if since_image[0] == 0:
            embeddings = self.after_images(samples, embeddings)
        starts = [
            sample.next_position + since for sample, since in zip(samples, since_image, strict=True)
        ]
        # Positions go on from the image's own count, which may differ from the number of tokens.
        counted = torch.arange(embeddings.shape[1]) + torch.tensor(starts)[:, None]
        positions = self.text_positions(counted.to(self.checkpoint.device))
        return self.run(embeddings, positions, cache, **self.beside(ids))[:, -ids.shape[1] :]

    def _text_ids(self, samples: Sequence[Sample], text: str | Sequence[str]) -> torch.Tensor:
        """Return token ids (row, token) of one text for all samples or one each.

        Raises UsageError on unequal lengths.
        """
        texts = [text] * len(samples) if isinstance(text, str) else list(text)
        ids = [self.prompt.text_ids(text) for text in texts]
        lengths = sorted({len(item) for item in ids})
        if len(ids) != len(samples) or len(lengths) != 1 or lengths[0] == 0:
            raise UsageError(
                f"texts: expected {len(samples)} of equal numbers of tokens, found {len(ids)} of "
                f"lengths {lengths}; "
                "run those of one length at a time"
            )
        return to_device([torch.tensor(item) for item in ids], self.checkpoint.device)

    def _end_ids(self) -> set[int]:
        """Tokens that end the assistant's turn."""
        ends: set[int] = set()
        for eos in (self.net.generation_config.eos_token_id, self.prompt.tokenizer.eos_token_id):
            ends |= {eos} if isinstance(eos, int) else set(eos or ())
        return ends


def equal_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the indices of texts of equal numbers of tokens, QUESTION_BATCH at most at a time; of
    equal texts in their order.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for _, group in groupby(order, key=lengths.__getitem__):
        rows = list(group)
        for start in range(0, len(rows), QUESTION_BATCH):
            yield rows[start : start + QUESTION_BATCH]


def _n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many token ids two texts have in common before they differ."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
