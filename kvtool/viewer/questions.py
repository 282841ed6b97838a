"""A question about a stored image: the answer, where its last token looks, and the answer with
heads blocked.

The model goes on from the image's stored keys and values; the picture is not run again, and nothing
is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from kvtool.asking.attending import Attender, attended_layers
from kvtool.asking.caches import cache_kinds
from kvtool.asking.inquiries import Inquiry
from kvtool.asking.query_tokens import QuerySource
from kvtool.errors import KvtoolError, UsageError
from kvtool.viewer.replies import Reply, ViewRequest
from kvtool.viewer.vectors import vectors_reply
from kvtool.viewer.viewed_run import ViewedRun

if TYPE_CHECKING:
    from kvtool.models.methods import Head

MAX_NEW_TOKENS = 32
MOST_BLOCKED = 10_000


@dataclass
class Questions:
    """Answers questions with one model, which is loaded for the first.

    Attributes:
        model: The model's name or folder; without one no question is answered.
        device: Where it runs.
    """

    model: str | None
    device: str = "auto"
    _attenders: dict[tuple[str, str], Attender] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def answer(self, viewed: ViewedRun, request: ViewRequest) -> dict[str, Any]:
        """Return the answer to a question, with the heads `blocked` ("layer:kv_head,...")."""
        heads = parse_blocked(request.text("blocked", ""))
        with self._lock:
            # Within the lock: transformers' classes must not be imported by two threads at once.
            from kvtool.models.knockout import knocked_out

            attender, sample = self._attender(viewed), viewed.sample(request.text("image"))
            model = attender.model
            kinds = cache_kinds(viewed.run.config.model.geometry)
            # The run is locked while it is read, not while the model answers.
            with viewed.lock:
                arrays = viewed.run.read_image(sample.id, kinds, raw=True)
            cache = model.restore([sample], [arrays], viewed.run.config.keys)
            turn = model.question(request.text("question"))
            # Hooks are there for this answer alone: the model is as before for the next one.
            with knocked_out(model, [sample], heads):
                (answer,) = model.ask(cache, sample, [turn], MAX_NEW_TOKENS)
        return {"answer": answer, "blocked": [list(head) for head in heads]}

    def attention(self, viewed: ViewedRun, request: ViewRequest) -> Reply:
        """Return what the question's last token pays to each token of the image, (layer, q_head,
        token) float32.
        """
        with self._lock:
            attender, sample = self._attender(viewed), viewed.sample(request.text("image"))
            text = request.text("question")
            inquiry = Inquiry(id="viewer", image=sample.id, text=text)
            attender.skipped.clear()
            with viewed.lock:
                looks = list(attender.looks([inquiry], lambda *_: None))
            if not looks:
                raise KvtoolError("; ".join(attender.skipped) or "question: nothing to look at")
        return vectors_reply(looks[0].attention.mean(axis=2).astype("<f4"), "float32")

    def _attender(self, viewed: ViewedRun) -> Attender:
        """Return what asks about a run's images. Raises KvtoolError where nothing can."""
        if self.model is None:
            raise UsageError(
                "question: expected a model, found none: start again as kvtool serve STORE "
                f"--model {viewed.run.config.model.name}"
            )
        layers = attended_layers(viewed.run, None)
        key = (str(viewed.run.store), viewed.run.name)
        if key not in self._attenders:
            source = QuerySource("last")
            attender = Attender(viewed.run, source, layers, self.model, self.device)
            # One set of weights serves all runs of the model.
            config = viewed.run.config.model
            for older in self._attenders.values():
                if older.run.config.model == config:
                    attender.model = older.model
            self._attenders[key] = attender
        return self._attenders[key]


def parse_blocked(text: str) -> list[Head]:
    """Return the heads in "layer:kv_head,layer:kv_head". Raises UsageError."""
    heads = []
    for part in filter(None, text.split(",")[:MOST_BLOCKED]):
        layer, _, kv_head = part.partition(":")
        if not (layer.isdecimal() and kv_head.isdecimal() and len(part) <= 12):
            raise UsageError(f"blocked: expected LAYER:KV_HEAD, found {part[:40]!r}")
        heads.append((int(layer), int(kv_head)))
    return heads
