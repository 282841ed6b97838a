"""`python -m kvtool.demo.training.saes OUT` trains the SAEs that are shipped with the demo model.

Their text is captions of scenes that nobody draws. A second call goes on where the first one
stopped; all of it takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.check import SaeFit, measure_fit
from kvtool.autoencoders.descriptions import write_descriptions
from kvtool.autoencoders.lift import describe_by_lift, strongest_contexts
from kvtool.autoencoders.loading import load_sae
from kvtool.autoencoders.saving import save_sae
from kvtool.autoencoders.text_training import TrainedSae, sae_train
from kvtool.demo.captions import scene_captions
from kvtool.demo.weights import DEMO
from kvtool.models.language import Language, load_language

K = 12
WIDTH = "4x"
STEPS = 2000
TRAINING_CAPTIONS = 30_000
TRAINING_SEED = 20
UNSEEN_CAPTIONS = 2_000
UNSEEN_SEED = 21
CONTEXTS = 2
"""Texts that are kept of each feature."""
STORED = torch.float16

CARD = """# SAEs of the demo model's decoder

BatchTopK SAEs (Bussmann et al. 2024) of the output of each of the {layers} decoder layers, {d} ->
{m} features, k {k}, trained on nothing but words: captions of {captions:,} scenes
(`kvtool.demo.captions`), {tokens:,} tokens. SAELens' layout, float16. Made by
`python -m kvtool.demo.training.saes OUT` with fixed seeds.

`descriptions.json` describes a feature by the tokens of highest lift, P(token | fires) / P(token),
with at least five firings; `contexts.json` has texts in which it fires strongest.

On {unseen:,} captions that training has not seen ({unseen_tokens:,} tokens): `fvu`, the share of
the variance that is missed; `l0`, active features of a token; `alive`, the share of features that
fire.

| layer | fvu | l0 | alive | described |
|---|---|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class SceneCaptions:
    """Captions of scenes as a data set for sae_train."""

    count: int
    seed: int
    name: str = field(default="scenes", init=False)

    def captions(self) -> Mapping[str, Sequence[str]]:
        """Return one caption a scene."""
        texts = enumerate(scene_captions(self.count, self.seed))
        return {str(number): [text] for number, text in texts}


@dataclass(frozen=True)
class UnseenStates:
    """The model's states over unseen captions.

    Attributes:
        ids: Token ids of all captions, one after the other.
        starts: The index at which each token's caption starts.
        states: (layer, token, hidden).
    """

    ids: list[int]
    starts: list[int]
    states: torch.Tensor


def unseen_captions(count: int) -> list[str]:
    """Return captions of `count` scenes, less those that are in the text of the training."""
    seen = set(scene_captions(TRAINING_CAPTIONS, TRAINING_SEED))
    return [text for text in scene_captions(count, UNSEEN_SEED) if text not in seen]


def unseen_words(language: Language, count: int) -> UnseenStates:
    """Run captions that training has not seen."""
    ids: list[int] = []
    starts: list[int] = []
    states: list[torch.Tensor] = []
    for item in language.text_states(unseen_captions(count), range(language.n_layers)):
        starts += [len(ids)] * len(item.ids)
        ids += item.ids
        states.append(item.states)
    return UnseenStates(ids, starts, torch.cat(states, dim=1))


def ship(trained: TrainedSae, words: UnseenStates, folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Write an SAE as it is shipped; return its row of the card and its descriptions."""
    target = folder / f"layer_{trained.layer}"
    autoencoder = load_sae(trained.path)
    # Fit is measured on captions that the training has not seen.
    states = words.states[trained.layer]
    fit = measure_fit(autoencoder, states)
    # What is measured is what is shipped: the weights with fewer bits.
    save_sae(autoencoder, target, frequencies=fit.frequencies, dtype=STORED)
    shipped = load_sae(target)
    fit = measure_fit(shipped, states)
    facts = {"l0": round(fit.l0, 2), "fvu": round(fit.fvu, 4), "n_tokens": trained.n_tokens}
    save_sae(shipped, target, frequencies=fit.frequencies, metadata=facts, dtype=STORED)
    features = shipped.encode(states.float())
    return {
        "fit": fit,
        "features": describe_by_lift(features, words.ids, tokenizer),
        "contexts": strongest_contexts(features, words.ids, words.starts, tokenizer, CONTEXTS),
    }


def card(rows: Mapping[int, dict[str, Any]], facts: dict[str, Any]) -> str:
    """Return the model card."""
    lines = []
    for layer, row in rows.items():
        fit: SaeFit = row["fit"]
        alive = float((fit.frequencies > 0).float().mean())
        lines.append(
            f"| {layer} | {fit.fvu:.3f} | {fit.l0:.1f} | {alive:.2f} | {len(row['features'])} |"
        )
    return CARD.format(rows="\n".join(lines), **facts)


def main(arguments: list[str] | None = None) -> int:
    """Train, measure, describe and write, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kvtool.demo.training.saes", description=__doc__
    )
    parser.add_argument("out", type=Path, help="folder of the run, which gets saes/")
    parser.add_argument("--steps", type=int, default=STEPS, help="batches of a layer's training")
    parser.add_argument(
        "--captions", type=int, default=TRAINING_CAPTIONS, help="texts for the training"
    )
    options = parser.parse_args(arguments)
    trained = sae_train(
        options.out / "trained",
        model=DEMO,
        dataset=SceneCaptions(options.captions, TRAINING_SEED),
        width=WIDTH,
        k=K,
        steps=options.steps,
        progress=True,
    )
    language = load_language(DEMO)
    # Features are described by texts that none of them was trained on.
    words = unseen_words(language, UNSEEN_CAPTIONS)
    folder = options.out / "saes"
    rows = {item.layer: ship(item, words, folder, language.tokenizer) for item in trained}
    descriptions = {layer: row["features"] for layer, row in rows.items()}
    write_descriptions(folder / "descriptions.json", descriptions)
    contexts = {layer: row["contexts"] for layer, row in rows.items()}
    (folder / "contexts.json").write_text(json.dumps(contexts, indent=0) + "\n")
    facts = {
        "layers": len(rows),
        "d": language.hidden,
        "m": trained[0].m,
        "k": K,
        "captions": options.captions,
        "tokens": trained[0].n_tokens,
        "unseen": UNSEEN_CAPTIONS,
        "unseen_tokens": len(words.ids),
    }
    (folder / "README.md").write_text(card(rows, facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
