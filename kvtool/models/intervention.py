"""Text asked after an image while something is done at the image's tokens in chosen heads.

What acts are queries of tokens after the image on the keys of its tokens, as in
kvtool.models.knockout: no image token's state changes, so that one cache of the image serves every
method. Some methods attend with numbers added to logits (scale, redistribute, temperature), some
put other keys or values into the cache (mean-key, mean-value), and one compares the answer's logits
with those of a row in which the heads are blocked (contrast).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from kvtool.models.attention import Act, AttentionCall, acting
from kvtool.models.base import LanguageModel
from kvtool.models.cache import fork, widened
from kvtool.models.continuation import equal_batches
from kvtool.models.decoder_geometry import readers
from kvtool.models.knockout import Blocked, group_heads, knocked_out
from kvtool.models.methods import Intervention, Method
from kvtool.models.placement import device_of
from kvtool.types import Sample

Means = Mapping[int, torch.Tensor]
"""Of each layer the mean key, or value, of image tokens, (kv_head, dim)."""
Added = Callable[[torch.Tensor], torch.Tensor]
"""Returns what is added to logits on an image's tokens, (row, q_head, query, image_token)."""


@dataclass(frozen=True)
class Intervened:
    """A model that is asked about an image under an intervention.

    Attributes:
        model: A loaded model.
        sample: The image.
        change: What is done, and in which heads.
        n_sinks: How many of the image's tokens count as sinks, those that a query looks at most.
        means: The means that take the place of keys or values, where the method has any.
    """

    model: LanguageModel
    sample: Sample
    change: Intervention
    n_sinks: int = 1
    means: Means | None = None

    @property
    def method(self) -> Method:
        """What is done."""
        return self.change.method

    @property
    def n_rows(self) -> int:
        """Rows that a text takes: beside it stands the one that its logits are compared with."""
        return 2 if self.method.name == "contrast" and not self.method.changes_nothing else 1

    def ask(self, cache: Any, texts: Sequence[str], max_new_tokens: int) -> Sequence[str | None]:
        """Return greedy answers to texts, see LanguageModel.ask; the cache stays as it was."""
        with self._at_work():
            changed = self._changed(cache)
            answers = self.model.ask(changed, self.sample, self._rows(texts), max_new_tokens)
        # The rows that others were compared with are left out of the answers.
        return answers[:: self.n_rows]

    @torch.inference_mode()
    def logits(self, cache: Any, texts: Sequence[str]) -> torch.Tensor:
        """Return the logits after the last token of texts, a float32 tensor on the CPU, (text,
        vocabulary); the cache stays as it was.
        """
        rows = self._rows(texts)
        logits: dict[int, torch.Tensor] = {}
        with self._at_work():
            changed = self._changed(cache)
            # Equal lengths run together, both rows of a text side by side.
            for batch in equal_batches([len(self.model.token_ids(text)) for text in rows]):
                copies = widened(changed, len(batch))
                batch_texts = [rows[index] for index in batch]
                samples = [self.sample] * len(batch)
                batch_logits = self.model.logits(copies, samples, batch_texts, last=True)
                logits |= zip(batch, batch_logits, strict=True)
        return torch.stack([logits[index] for index in range(0, len(rows), self.n_rows)])

    def _rows(self, texts: Sequence[str]) -> list[str]:
        """Return each text as often as it has rows; those of a text stay side by side in batches,
        which are of an even number.
        """
        return [text for text in texts for _ in range(self.n_rows)]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Within, the method is at work wherever it does not change the cache."""
        method, heads = self.method, self.change.heads
        if method.blocks or method.changes_nothing or self.change.needs_means:
            # Under the means nothing is blocked: the same attention runs in all conditions.
            with knocked_out(self.model, [self.sample], heads if method.blocks else ()):
                yield
            return
        contrast = contrasted(self.model, method) if self.n_rows > 1 else nullcontext()
        with acting(self.model, self._acts()), contrast:
            yield

    def _acts(self) -> dict[int, Act]:
        """Return what is done at each layer's attention that reads the keys of chosen heads."""
        layers = self.model.language_model.layers
        # Layers that read another's keys act on the same heads.
        reading = readers(self.model.language_model.config)
        by_layer = group_heads(self.change.heads, self.model.info.geometry)
        return {
            reader: self._act(q_heads.to(device_of(layers[reader])))
            for layer, q_heads in by_layer.items()
            for reader in reading[layer]
        }

    def _act(self, q_heads: torch.Tensor) -> Act:
        """Return what is done at the attention of a layer in some of its query heads (q_head,)."""
        start, stop = self.sample.image_start, self.model.image_end(self.sample)
        if self.n_rows > 1:
            return BlockedBeside(q_heads, start, stop)
        return Reweighted(q_heads, start, stop, added_logits(self.method, self.n_sinks))

    def _changed(self, cache: Any) -> Any:
        """Return the cache with means in place of the image's keys or values in chosen heads."""
        if self.means is None:
            return cache
        name = {"mean-key": "keys", "mean-value": "values"}[self.method.name]
        # The cache serves other methods: only the layers concerned are copied.
        changed = fork(cache)
        start = self.sample.image_start
        for layer, kv_head in sorted(self.change.heads):
            states = getattr(changed.layers[layer], name).clone()
            mean = self.means[layer][kv_head].to(states)
            states[:, kv_head, start : start + self.sample.n_tokens] = mean
            setattr(changed.layers[layer], name, states)
        return changed


@contextmanager
def contrasted(model: Any, method: Method) -> Iterator[None]:
    """Within, the logits of every two rows are those of the first, and `strength` times by how much
    they exceed the second's.
    """
    strength = float(method.strength or 0)

    def compare(logits: torch.Tensor) -> torch.Tensor:
        """Give both rows the logits that the answer is chosen by, so that they go on alike."""
        # Even rows are the answer's, odd ones those without the image.
        first, second = logits[::2], logits[1::2]
        return (first + strength * (first - second)).repeat_interleave(2, dim=0)

    model.logits_act = compare
    try:
        yield
    finally:
        model.logits_act = None


@dataclass(frozen=True)
class BlockedBeside:
    """Blocks the image from every second row; see kvtool.models.knockout.Blocked.

    Attributes:
        q_heads: The query heads concerned, (q_head,) bool.
        start, stop: Positions of the image's first token and of the first one after it.
    """

    q_heads: torch.Tensor
    start: int
    stop: int

    def __call__(self, call: AttentionCall) -> torch.Tensor:
        """Return what is visible, (row, q_head, query, key) bool."""
        device = self.q_heads.device
        # Every second row is blocked, in the chosen heads alone.
        is_second = torch.arange(call.queries.shape[0], device=device) % 2 == 1
        start, stop = (torch.tensor([[end]], device=device) for end in (self.start, self.stop))
        return Blocked(is_second[:, None] & self.q_heads, start, stop)(call)


@dataclass(frozen=True)
class Reweighted:
    """Adds numbers to the logits of text on an image's tokens.

    Attributes:
        q_heads: The query heads concerned, (q_head,) bool.
        start, stop: Positions of the image's first token and of the first one after it.
        added: Returns the numbers.
    """

    q_heads: torch.Tensor
    start: int
    stop: int
    added: Added

    def __call__(self, call: AttentionCall) -> torch.Tensor:
        """Return what to add to logits, float32 (row, q_head, query, key), minus infinity where
        nothing is visible.
        """
        rows, n_queries, n_keys = len(call.queries), call.queries.shape[2], call.keys.shape[2]
        device = call.queries.device
        # The logits as the model would have them: what is added depends on them.
        logits = call.logits(torch.arange(n_queries, device=device).expand(rows, -1))
        on_image = logits[..., self.start : self.stop]
        # Only text after the image is concerned; the queries are the last positions of the cache.
        positions = torch.arange(n_keys - n_queries, n_keys, device=device)
        concerned = self.q_heads[:, None] & (positions >= self.stop)
        concerned = concerned[None, :, :, None] & on_image.isfinite()
        visible = call.visible()
        # In numbers, since something is added to what is visible.
        if visible.dtype == torch.bool:
            visible = torch.zeros_like(logits).masked_fill(~visible, float("-inf"))
        mask = visible.float().expand(logits.shape).clone()
        mask[..., self.start : self.stop] += torch.where(concerned, self.added(on_image), 0.0)
        return mask


def added_logits(method: Method, n_sinks: int) -> Added:
    """Return what a method adds to logits on an image's tokens."""
    strength = float(method.strength or 0)

    def scale(logits: torch.Tensor) -> torch.Tensor:
        """Multiply attention before the softmax by the strength."""
        return torch.full_like(logits, strength).log()

    def temperature(logits: torch.Tensor) -> torch.Tensor:
        """Divide logits by the strength, and leave their attention on the image as it was."""
        # So much is taken or given that the mass on the image stays what it was.
        cooled = logits / strength
        mass, cooled_mass = (part.logsumexp(-1, keepdim=True) for part in (logits, cooled))
        return cooled - logits + (mass - cooled_mass)

    def redistribute(logits: torch.Tensor) -> torch.Tensor:
        """Take a share from the strongest tokens and give it to the others, in proportion."""
        shares = logits.softmax(dim=-1)
        # The strongest tokens of each query by itself.
        sinks = shares.topk(min(n_sinks, shares.shape[-1]), dim=-1).indices
        is_sink = torch.zeros_like(shares).scatter(-1, sinks, 1.0)
        sink_mass = (shares * is_sink).sum(-1, keepdim=True)
        mass = (shares * (1 - is_sink)).sum(-1, keepdim=True)
        factors = torch.where(is_sink > 0, 1 - strength, 1 + strength * sink_mass / mass)
        # Where nothing else is looked at, there is nothing to give it to in proportion.
        return torch.where(mass > 0, factors, 1.0).log()

    methods: dict[str, Added] = {
        "scale": scale,
        "temperature": temperature,
        "redistribute": redistribute,
    }
    return methods[method.name]
