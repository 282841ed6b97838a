"""Pictures made ready for the model, window by window: claimed, decoded and preprocessed, or read
from a run that holds what is before the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from kvtool.engine.batches import PartWork, Waiting
from kvtool.engine.events import Event, Tell
from kvtool.engine.plan import Plan
from kvtool.engine.preparing import prepare_ref
from kvtool.engine.windows import Indices, windows
from kvtool.errors import BusyError, ImageError
from kvtool.store import part_name

if TYPE_CHECKING:
    from kvtool.engine.reuse import FeatureSource
    from kvtool.models.base import LanguageModel, Model, Prepared
    from kvtool.store import Run

PREPARE_THREADS = 4


@dataclass(frozen=True)
class Ready:
    """Images of a part that are ready to run, and those of the same window that the run holds
    already and that stand in batches with them.

    ends: whether they are the last of their window.
    """

    images: list[Waiting]
    ends: bool


@dataclass(frozen=True)
class Preparer:
    """Makes the parts of a plan ready that nobody else holds."""

    plan: Plan
    run: Run
    model: Model
    source: FeatureSource | None
    strict: bool
    tell: Tell

    def ready(self, parts: Sequence[Indices], stacks: list[ExitStack]) -> Iterator[Ready]:
        """Yield parts that are ready, each window's one after the other.

        stacks: takes in every claim, for whoever has to end them all.
        """
        with ThreadPoolExecutor(PREPARE_THREADS) as pool:
            for group, indices in windows(self.plan, parts):
                claims = self._claims(group, stacks)
                claimed = {index for part in claims for index in part}
                # A window that is this worker's as a whole is done part by part, in order.
                if claimed == set(indices):
                    yield from self._fresh(pool, claims)
                elif claimed:
                    # Batches form of all of the window's pictures, as they did the first time.
                    beside = [index for index in indices if index not in claimed]
                    yield from self._resumed(pool, claims, beside)

    def _claims(
        self, parts: Sequence[Indices], stacks: list[ExitStack]
    ) -> dict[Indices, ExitStack]:
        """Claim the parts of a window. Whoever holds the first has the others, too."""
        claims: dict[Indices, ExitStack] = {}
        for part in parts:
            stack = ExitStack()
            try:
                stack.enter_context(self.run.claim(self.plan.config.claim_name(part[0])))
            except BusyError as busy:
                self.tell(Event("busy", message=str(busy)))
                # Without its first part the window is another worker's.
                if not claims:
                    break
                continue
            stacks.append(stack)
            # Committed by another process since the plan was made?
            if covered_now(self.run, part):
                stack.close()
                continue
            claims[part] = stack
        return claims

    def _fresh(self, pool: ThreadPoolExecutor, claims: dict[Indices, ExitStack]) -> Iterator[Ready]:
        """Yield the parts of a window of which the run holds nothing, each as soon as it can."""
        for position, (part, claim) in enumerate(claims.items()):
            images = self._part(pool, part, claim)
            yield Ready(images, ends=position == len(claims) - 1)

    def _resumed(
        self, pool: ThreadPoolExecutor, claims: dict[Indices, ExitStack], beside: Sequence[int]
    ) -> Iterator[Ready]:
        """Yield the parts of a window that is not whole, and beside them the pictures that stood
        in batches with theirs when the whole window ran.
        """
        images: list[Waiting] = []
        for part, claim in claims.items():
            images += self._part(pool, part, claim)
        if images:
            stored = self._prepared(pool, beside, False, lambda _: None)
            images += [Waiting(item, None) for item in stored]
            # The order of the window decides who shares a batch with whom.
            images.sort(key=lambda image: image.item.sample.index)
            yield Ready(images, ends=True)

    def _part(self, pool: ThreadPoolExecutor, part: Indices, claim: ExitStack) -> list[Waiting]:
        """Return a part's images that can be read, ready."""
        good = self._prepared(pool, part, self.strict, self.tell)
        # Nothing of the part can be read: no run entry comes of it, and others may try.
        if not good:
            claim.close()
            return []
        if self.source is not None:
            stored = self.source.samples
            self.tell(Event("reused", sum(item.sample.id in stored for item in good)))
        # Named after what it holds, so that images left out now find their own name free later.
        name = part_name(good[0].sample.index, good[-1].sample.index + 1)
        work = PartWork(name, [item.sample for item in good], claim)
        return [Waiting(item, work, position) for position, item in enumerate(good)]

    def _prepared(
        self, pool: ThreadPoolExecutor, indices: Sequence[int], strict: bool, tell: Tell
    ) -> list[Prepared]:
        """Return those of some images that can be read."""

        def prepare(index: int) -> Prepared | None:
            """Return one image, None where it cannot be read."""
            return prepare_one(self.plan, self.model, index, strict, tell, self.source)

        return [item for item in pool.map(prepare, indices) if item is not None]


def covered_now(run: Run, indices: Sequence[int]) -> bool:
    """Return whether another process committed these images since the plan was made."""
    return set(indices) <= run.covered_indices(range(indices[0], indices[-1] + 1))


def prepare_one(
    plan: Plan,
    model: Model,
    index: int,
    strict: bool,
    tell: Tell,
    source: FeatureSource | None = None,
) -> Prepared | None:
    """Decode and preprocess one image, or read what the source holds of it; a bad one is told and
    left out, or raised under `strict`.
    """
    ref, prefix = plan.ref(index), plan.prefix(index)
    try:
        if prefix is None:
            raise ImageError(
                f"image {ref.id}: expected a text for --prefix {plan.config.prefix}, found none "
                "for it"
            )
        if source is not None and ref.id in source.samples:
            # Damaged arrays of the source count as absent: the picture is decoded after all.
            stored = source.prepare(cast("LanguageModel", model), ref.id, index, prefix)
            if stored is not None:
                return stored
        return prepare_ref(model, ref, index, prefix, plan.config.view)
    except ImageError as error:
        if strict:
            raise
        tell(Event("failed", 1, index, ref.id, str(error)))
        return None
