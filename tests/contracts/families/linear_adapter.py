"""Two of transformers' own models and the matrix between them, for the contract of decoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, BitImageProcessorPil, Dinov2Model, LlamaForCausalLM

import kvtool
from kvtool.models.adapters import read_settings
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.model_contract import DecoderContract
from tests.support.adapters import WHAT, parts, pictures
from tests.support.tiny_words import token_id

GRID = 4
POOL = 1
"""The contract blanks nine cells of a grid, which pooling would not leave of 4 x 4."""
N_TOKENS = (GRID // POOL) ** 2
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Joined:
    """The language model as transformers runs it, and how an image comes before it."""

    def __init__(self, language: Any, tower: Any, weights: dict[str, torch.Tensor]) -> None:
        self.language = language
        self.tower = tower
        self.weights = weights
        self.dtype = language.dtype
        self.model = SimpleNamespace(language_model=language.model)
        self.config = SimpleNamespace(text_config=language.config)
        self.start = 0

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype) -> Joined:
        settings = read_settings(folder)
        load: Any = LlamaForCausalLM.from_pretrained
        see: Any = Dinov2Model.from_pretrained
        return cls(
            load(settings.language.name, dtype=dtype).eval(),
            see(settings.vision.name, dtype=dtype).eval(),
            load_file(folder / settings.weights),
        )

    def eval(self) -> Joined:
        return self

    def modules(self) -> Iterator[Any]:
        """All of both networks."""
        yield from self.language.modules()
        yield from self.tower.modules()

    def get_input_embeddings(self) -> Any:
        return self.language.get_input_embeddings()

    def get_decoder(self) -> Any:
        return self.language.get_decoder()

    def __call__(self, **inputs: Any) -> Any:
        return self.language(**inputs)

    def generate(self, **options: Any) -> torch.Tensor:
        # What ends a turn is said by the tokenizer, too.
        ends = [self.language.generation_config.eos_token_id, token_id("<|im_end|>")]
        ids: torch.Tensor = self.language.generate(**options, eos_token_id=ends)
        # The tiny tokenizer has the decoder's end token as an ordinary word.
        return ids[:, :-1] if int(ids[0, -1]) in ends else ids

    def patches(self, pixels: torch.Tensor, layer: int) -> torch.Tensor:
        """Outputs (patch, dim) of a tower layer, the last one's after the norm."""
        states = self.tower(pixels.to(self.dtype), output_hidden_states=True).hidden_states
        patches: torch.Tensor = states[layer + 1][0, 1:]
        return self.tower.layernorm(patches) if layer + 2 == len(states) else patches

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Image tokens (token, hidden) as the language model takes them."""
        grid = self.patches(pixels, 2).float().reshape(GRID, GRID, -1)
        squares = [
            grid[row : row + POOL, col : col + POOL].mean(dim=(0, 1))
            for row in range(0, GRID, POOL)
            for col in range(0, GRID, POOL)
        ]
        tokens = torch.stack(squares) @ self.weights["weight"].T + self.weights["bias"]
        return tokens.to(self.dtype)


class Processor:
    """What transformers would have: a tokenizer, and so many tokens for an image."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = tokenizer.convert_tokens_to_ids("<image>")

    def __call__(self, images: Image.Image, text: str) -> dict[str, Any]:
        assert images.size
        ids = self.tokenizer(text).input_ids
        at_image = ids.index(self.image_token_id)
        return {
            "input_ids": [
                [*ids[:at_image], *[self.image_token_id] * N_TOKENS, *ids[at_image + 1 :]]
            ]
        }


class Adapter(DecoderContract):
    own_class: ClassVar[Any] = Joined
    image_token = marker = "<image>"

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """An adapter that was trained."""
        root = tmp_path_factory.mktemp("trained")
        language, vision = parts(root, TEMPLATE)
        trained = kvtool.adapter_train(
            root / "adapter",
            lm=str(language),
            vision=str(vision),
            dataset=f"own:{pictures(root / 'mine')}",
            question=WHAT,
            pool=POOL,
            steps=12,
            batch_size=4,
            learning_rate=1e-2,
            dtype="float32",
            device="cpu",
        )
        return Path(trained.path)

    def own_processor(self, folder: Path) -> Any:
        tokenizer: Any = AutoTokenizer.from_pretrained(read_settings(folder).language.name)
        return Processor(tokenizer)

    def pixels(self, folder: Path, image: Image.Image) -> torch.Tensor:
        processor: Any = BitImageProcessorPil.from_pretrained(read_settings(folder).vision.name)
        pixels: torch.Tensor = processor(image, return_tensors="pt")["pixel_values"]
        return pixels

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view in self.views
        with torch.inference_mode():
            return to_array(reference.patches(self.pixels(folder, image), layer))

    def own_features(self, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
        embeddings: torch.Tensor = inputs["inputs_embeds"]
        start = reference.start
        return embeddings[0, start : start + N_TOKENS]

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = "what is there",
    ) -> dict[str, Any]:
        """Embeddings of the text before the image, the image, and the text behind it."""
        assert view in self.views
        tokenizer = self.own_processor(folder).tokenizer
        turn = [{"role": "user", "content": f"<image>\n{question}"}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before, _, after = text.partition("<image>")
        before += f"{prefix}\n" if prefix else ""
        embed = reference.get_input_embeddings()
        with torch.inference_mode():
            pieces = [
                embed(torch.tensor(tokenizer(before).input_ids)),
                reference.tokens(self.pixels(folder, image)),
                embed(torch.tensor(tokenizer(after).input_ids)),
            ]
        reference.start = len(pieces[0])
        return {"inputs_embeds": torch.cat(pieces)[None]}
