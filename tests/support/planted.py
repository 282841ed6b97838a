"""A model whose answers two known heads spoil, and a benchmark on which it is right without
them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.support import tiny
from tests.support.tiny_words import word_id

NOISY = frozenset({(4, 1), (5, 2)})
"""(layer, kv_head) that carry the image's brightness into the answer; of 6 layers with 4 kv_heads
each.
"""
CONSTANT = NOISY | {(0, 1), (0, 2), (1, 0), (1, 3)}
"""Those whose keys are (all but) the same for every image."""
LAYERS, Q_HEADS, KV_HEADS, HEAD_DIM = 6, 8, 4, 4
UNIT, ANIMAL, BRIGHTNESS, ANSWER = range(4)
"""Channels of the residual stream; all others stay zero."""
WORDINGS = ("is there a {} in the image", "is the {} on the left", "what colour is the {}")


def planted_model(folder: Path) -> Path:
    """Attention is uniform everywhere: queries are zero, keys are there to be looked at.

    Head (0, 0) tells the answer which animal the question names: cat is yes, dog is no. Heads NOISY
    add, much louder, whether the image is bright (yes) or dark (no).
    """
    from transformers import LlavaNextForConditionalGeneration

    sizes: dict[str, Any] = {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": Q_HEADS,
        "num_key_value_heads": KV_HEADS,
    }
    tiny.llava_next(folder, **sizes)
    loader: Any = LlavaNextForConditionalGeneration
    net = loader.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        decoder = net.model.language_model
        for layer in decoder.layers:
            for module in (*layer.self_attn.children(), layer.mlp.down_proj):
                module.weight.zero_()
        plant_keys(decoder)
        copy_channel(decoder, 0, 0, ANIMAL, gain=1.0)
        for layer, kv_head in NOISY:
            copy_channel(decoder, layer, kv_head, BRIGHTNESS, gain=100.0)
        words = decoder.embed_tokens.weight.zero_()
        words[:, UNIT] = 1.0
        words[word_id("cat"), ANIMAL], words[word_id("dog"), ANIMAL] = 1.0, -1.0
        head = net.lm_head.weight.zero_()
        head[word_id("yes"), ANSWER], head[word_id("no"), ANSWER] = 1.0, -1.0
        net.model.image_newline.zero_()[UNIT] = 1.0
        brightness_in_channel(net)
    net.save_pretrained(folder)
    return folder


def plant_keys(decoder: Any) -> None:
    """Keys say how bright the image is, those of CONSTANT heads that there is one."""
    for layer, module in enumerate(decoder.layers):
        keys = module.self_attn.k_proj.weight
        for kv_head in range(KV_HEADS):
            rows = keys[kv_head * HEAD_DIM : (kv_head + 1) * HEAD_DIM]
            if (layer, kv_head) in CONSTANT:
                rows[:, UNIT] = 1.0
            else:
                rows[:, (BRIGHTNESS, ANSWER)] = 1.0 + kv_head / 4


def copy_channel(decoder: Any, layer: int, kv_head: int, channel: int, gain: float) -> None:
    """One query head of a kv_head adds `gain` times the mean of a channel, over what it sees, to
    the answer.
    """
    attention = decoder.layers[layer].self_attn
    attention.v_proj.weight[kv_head * HEAD_DIM, channel] = 1.0
    q_head = kv_head * Q_HEADS // KV_HEADS
    attention.o_proj.weight[ANSWER, q_head * HEAD_DIM] = gain


def brightness_in_channel(net: Any) -> None:
    """The projector's last layer says +1/2 of a white image and -1/2 of a black one, on the mean
    over its tokens.
    """
    projector = net.model.multi_modal_projector
    levels = []
    handle = projector.linear_2.register_forward_pre_hook(
        lambda _, inputs: levels.append(inputs[0].mean(dim=(0, 1)))
    )
    for level in (1.0, -1.0):
        pixels = torch.full((1, 3, 34, 34), 2.0 * level)
        states = net.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        projector(states[net.config.vision_feature_layer][:, 1:])
    handle.remove()
    white, black = levels
    axis = (white - black) / (white - black).square().sum()
    projector.linear_2.weight.zero_()[BRIGHTNESS] = axis
    projector.linear_2.bias.zero_()[UNIT] = 1.0
    projector.linear_2.bias[BRIGHTNESS] = -axis @ (white + black) / 2


def planted_picture(index: int) -> Image.Image:
    """White for odd indices, black for even ones; no two are quite the same picture."""
    level = 255 - index if index % 2 else index
    return Image.new("RGB", (40, 40), (level, level, level))


def planted_pope(folder: Path, n_images: int = 8) -> Path:
    """Half of the images white, half black; of each, three questions about a cat (yes) and three
    about a dog (no).
    """
    (folder / "val2014").mkdir(parents=True)
    lines: list[str] = []
    for index in range(n_images):
        name = f"{index:03d}.png"
        planted_picture(index).save(folder / "val2014" / name)
        for wording in WORDINGS:
            for animal, label in (("cat", "yes"), ("dog", "no")):
                record = {
                    "question_id": len(lines) + 1,
                    "image": name,
                    "text": wording.format(animal),
                    "label": label,
                }
                lines.append(json.dumps(record) + "\n")
    (folder / "coco_pope_random.json").write_text("".join(lines))
    return folder


def planted_mme(folder: Path, n_images: int = 8) -> Path:
    """The same as two of MME's subsets."""
    subsets = (("existence", WORDINGS[0]), ("position", WORDINGS[1]))
    for number, (subset, wording) in enumerate(subsets):
        (folder / subset).mkdir(parents=True)
        for index in range(n_images):
            path = folder / subset / f"{index:03d}.png"
            planted_picture(number * n_images + index).save(path)
            pairs = (("cat", "Yes"), ("dog", "No"))
            text = "".join(f"{wording.format(animal)}\t{answer}\n" for animal, answer in pairs)
            path.with_suffix(".txt").write_text(text)
    return folder
