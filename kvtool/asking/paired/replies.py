"""What the model replies to prompts over several pictures, stored as soon as it is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kvtool import schema
from kvtool.asking.answering import Answer, Answerer
from kvtool.progress import Progress
from kvtool.store import hash_json
from kvtool.store.shares import chunk_name

if TYPE_CHECKING:
    from kvtool.models.base import Prepared

AT_ONCE = 16
"""Questions over several images that are claimed and asked together."""

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class AnswerPrompt:
    """A question over several pictures.

    `key` identifies the pictures; `prepare` makes them ready for the loaded model, or returns None
    where what is stored of one is not finite; `options` are the answers that can be given.
    """

    key: Any
    text: str
    prepare: Callable[[], list[Prepared] | None]
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replies(Generic[Reply]):
    """Asks prompts of an answerer's model; a reply is None where the model could give none."""

    answerer: Answerer
    name: ClassVar[str]
    """The field of a stored record that holds the reply."""

    def key(self, prompt: AnswerPrompt) -> str:
        """Return the name under which the reply to a prompt is stored."""
        raise NotImplementedError

    def settings(self, prompt: AnswerPrompt) -> dict[str, Any]:
        """Return what a stored record says of how it was asked."""
        raise NotImplementedError

    def read(self, record: dict[str, Any]) -> tuple[Reply | None]:
        """Read a stored record. Raises CorruptError."""
        raise NotImplementedError

    def generate(
        self, images: Sequence[Sequence[Prepared]], prompts: Sequence[AnswerPrompt]
    ) -> Sequence[Reply | None]:
        """Return what the model replies to prompts over prepared images."""
        raise NotImplementedError

    def ask(self, prompts: Sequence[AnswerPrompt], progress: Progress) -> list[Reply | None]:
        """Return replies in the order of the prompts, AT_ONCE of them at a time.

        Raises BusyError where other processes still hold some; see Share.each.
        """
        # Equal prompts have one key and are asked once.
        keys = [self.key(prompt) for prompt in prompts]
        replies: dict[str, Reply | None] = {}
        distinct = list(dict(zip(keys, prompts, strict=True)).items())
        # Chunks do not depend on what is stored, so that all processes claim the same ones.
        chunks = [
            dict(distinct[start : start + AT_ONCE]) for start in range(0, len(distinct), AT_ONCE)
        ]
        share = self.answerer.share

        def ask(chunk: dict[str, AnswerPrompt]) -> None:
            """Ask one chunk."""

            def stored() -> dict[str, Reply | None] | None:
                """Return the chunk's stored replies where all are there."""
                chunk_replies = self._stored(chunk)
                return chunk_replies if chunk_replies.keys() == chunk.keys() else None

            name = chunk_name(f"{self.name}s", "", hash_json(list(chunk)))
            run = self.answerer.run
            replies.update(share.once(run, name, stored, lambda: self._ask_rest(chunk)))
            progress(len(chunk), f"{self.name}s")

        share.each(chunks, ask, f"chunks of {AT_ONCE} questions")
        return [replies[key] for key in keys]

    def _stored(self, chunk: Mapping[str, AnswerPrompt]) -> dict[str, Reply | None]:
        """Return the stored replies, by key; none where all are asked again."""
        if self.answerer.fresh:
            return {}
        records = {key: self.answerer.store.kept(key, self.read) for key in chunk}
        return {key: record[0] for key, record in records.items() if record is not None}

    def _ask_rest(self, chunk: Mapping[str, AnswerPrompt]) -> dict[str, Reply | None]:
        """Return replies by key; those that are not stored are asked together, and stored one by
        one."""
        # Another process may have added some meanwhile: only the rest is computed.
        stored = self._stored(chunk)
        todo = {key: prompt for key, prompt in chunk.items() if key not in stored}
        # A prompt with a spoiled picture has no reply.
        prepared = {key: prompt.prepare() for key, prompt in todo.items()}
        images = {key: pictures for key, pictures in prepared.items() if pictures is not None}
        replies: dict[str, Reply | None] = dict.fromkeys(todo)
        if images:
            generated = self.generate(list(images.values()), [todo[key] for key in images])
            replies |= zip(images, generated, strict=True)

        # What was not asked is not stored: its pictures may be extracted anew, and then have a
        # reply.
        def keep(key: str) -> None:
            """Store a reply."""
            labels = {"run": self.answerer.run.name, "pictures": todo[key].key}
            labels |= self.settings(todo[key])
            record = {"kind": self.name, **labels, "text": todo[key].text, self.name: replies[key]}
            self.answerer.store.keep(key, record)

        # A disk syncs several files in the time of one.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(keep, images))
        return stored | replies


@dataclass(frozen=True)
class OneAnswer:
    """The stored record of what the model answers to a prompt."""

    answer: Answer


@dataclass(frozen=True)
class OptionRecord:
    """The stored record of the log-probabilities of a prompt's options."""

    option_score: list[float] | None


@dataclass(frozen=True)
class PromptAnswers(Replies[str]):
    """What the model answers in words."""

    name: ClassVar[str] = "answer"

    def key(self, prompt: AnswerPrompt) -> str:
        """See Replies.key."""
        return hash_json([self.answerer.key, prompt.key, prompt.text])

    def settings(self, prompt: AnswerPrompt) -> dict[str, Any]:  # noqa: ARG002
        """See Replies.settings."""
        return {"max_new_tokens": self.answerer.max_new_tokens}

    def read(self, record: dict[str, Any]) -> tuple[Answer]:
        """See Replies.read."""
        return (schema.read(OneAnswer, record, "answer").answer,)

    def generate(
        self, images: Sequence[Sequence[Prepared]], prompts: Sequence[AnswerPrompt]
    ) -> Sequence[Answer]:
        """See Replies.generate."""
        texts = [prompt.text for prompt in prompts]
        return self.answerer.loaded.ask_several(images, texts, self.answerer.max_new_tokens)


@dataclass(frozen=True)
class OptionScores(Replies[list[float]]):
    """The log-probability of each option, as what follows the prompt."""

    name: ClassVar[str] = "option_score"

    def key(self, prompt: AnswerPrompt) -> str:
        """See Replies.key."""
        return hash_json([self.answerer.key, prompt.key, prompt.text, "options", prompt.options])

    def settings(self, prompt: AnswerPrompt) -> dict[str, Any]:
        """See Replies.settings."""
        return {"options": list(prompt.options)}

    def read(self, record: dict[str, Any]) -> tuple[list[float] | None]:
        """See Replies.read."""
        return (schema.read(OptionRecord, record, "option scores").option_score,)

    def generate(
        self, images: Sequence[Sequence[Prepared]], prompts: Sequence[AnswerPrompt]
    ) -> Sequence[list[float] | None]:
        """See Replies.generate."""
        model = self.answerer.loaded
        return [
            model.option_scores(pictures, prompt.text, prompt.options)
            for pictures, prompt in zip(images, prompts, strict=True)
        ]
