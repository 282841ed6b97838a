"""Your own data: pictures, and beside them whatever you have of masks, keypoints, videos, questions
and captions.

Every file but the pictures may be left out; which tasks are served follows from what is there
(docs/datasets.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvtool.datasets import own_records as records
from kvtool.datasets.base import About, ImageRef, Question
from kvtool.datasets.clips import clip_of
from kvtool.datasets.davis import Video, object_count
from kvtool.datasets.images import read_size
from kvtool.datasets.own_captions import OwnCaptions
from kvtool.datasets.own_files import VIDEOS
from kvtool.datasets.records import CAPTIONS, CONCEPTS, QUESTIONS, VideoRef
from kvtool.datasets.spair71k import Box, Pair, checked_pair
from kvtool.datasets.values import first_few
from kvtool.errors import DatasetError, ImageError

MASK_TASKS = ("foreground-segmentation", "co-segmentation", "semantic-segmentation")
LISTS = {
    QUESTIONS: "questions.jsonl",
    CAPTIONS: "captions.jsonl",
    "semantic-correspondence": "pairs.jsonl",
}
"""The list that something is read from."""


class Own(OwnCaptions):
    """A folder laid out as docs/datasets.md has it.

    Ids are places below images/ without suffix, and of the frames of videos
    `videos/<name>/<frame>`; the pictures come first.

    `skipped` holds the lines about what was last asked for: pairs, questions and so on.
    """

    about = About(
        name="own",
        title="your own pictures, masks, keypoints, videos, questions, captions",
        tasks=(
            "foreground-segmentation",
            "co-segmentation",
            "semantic-segmentation",
            "referring-expression",
            "semantic-correspondence",
            "temporal-correspondence",
        ),
        splits=("all",),
        layout=(
            "images/**/*.{jpg,png,...}  pictures",
            "masks/**/*.png  optional: class ids of the picture of the same name",
            "classes.json  names of the ids in masks/, which is void, whether 0 is background",
            "pairs.jsonl  optional: two pictures a line, with corresponding keypoints",
            "videos/<name>/*.jpg  optional: frames",
            "videos/<name>/masks/*.png  object ids of the frames of the same name",
            "questions.jsonl  optional: pictures, question, answer, choices",
            "captions.jsonl  optional: a picture and a text a line",
        ),
        source="yours",
        licence="yours",
        conditions=("none", "correct", "incorrect", "random"),
    )

    # What the files allow.

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the files in the folder allow."""
        return tuple(task for task in self.about.tasks if not self.lacks(task))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The prefixes that the files allow: those of captions only where there are any."""
        if self._has("captions.jsonl"):
            return self.about.conditions
        return tuple(name for name in self.about.conditions if name not in ("correct", "incorrect"))

    def lacks(self, service: str) -> str:
        """Return which file is missing for a task or for questions; "" where none is."""
        if service in (*MASK_TASKS, CONCEPTS):
            absent = [name for name in ("masks/", "classes.json") if not self._has(name)]
            return f"no {' and no '.join(absent)}" if absent else ""
        if service == "referring-expression":
            return "" if self._refers() else "no line of captions.jsonl that has a class or a mask"
        if service == "temporal-correspondence":
            has_masks = any(self._frame_masks(video).names for video in self._frames)
            return "" if has_masks else f"no {VIDEOS}/<name>/masks/"
        if service in LISTS:
            return "" if self._has(LISTS[service]) else f"no {LISTS[service]}"
        return f"{self.name} has no annotations for {service}"

    # Pairs, videos, questions.

    def pairs(self) -> list[Pair]:
        """Return the lines of pairs.jsonl, each with the keypoints that its two pictures share, by
        name.
        """
        listed, left_out = self._lines("pairs.jsonl", records.pair_of)
        # Keypoints are numbered by name over all pairs, in the order in which names first come.
        names = list(
            dict.fromkeys(
                name for pair in listed for name in (*pair.points_px[0], *pair.points_px[1])
            )
        )
        number_of = {name: number for number, name in enumerate(names)}
        pairs: dict[str, Pair] = {}
        for record in listed:
            try:
                pair = self._pair(record, number_of)
                # Of two pairs of one id the first counts.
                if pairs.setdefault(pair.id, pair) is not pair:
                    raise DatasetError("expected an id of its own, found that of another pair")
            except (DatasetError, ImageError) as error:
                left_out.append(f"{self.folder / 'pairs.jsonl'}: line {record.line}: {error}")
        self.skipped = [*self._unlisted, *left_out]
        if not pairs:
            raise DatasetError(
                f"{self.folder / 'pairs.jsonl'}: no usable pair; first problem: {left_out[0]}"
            )
        return list(pairs.values())

    def _pair(self, record: records.PairRecord, number_of: dict[str, int]) -> Pair:
        """Return a pair. Where no sizes are given they are the pictures' own, where no boxes, the
        whole pictures.
        """
        sizes = record.sizes_wh_px or tuple(
            read_size(self._refs[name]) for name in record.image_ids
        )
        boxes: Sequence[Box] = record.boxes_xyxy_px or [
            (0.0, 0.0, float(w), float(h)) for w, h in sizes
        ]
        source, target = record.points_px
        # Only points that have a name in both pictures correspond.
        shared = [name for name in source if name in target]
        return checked_pair(
            Pair(
                id=record.id,
                category=record.category,
                src_id=record.image_ids[0],
                trg_id=record.image_ids[1],
                src_wh_px=sizes[0],
                trg_wh_px=sizes[1],
                src_kps_px=tuple(source[name] for name in shared),
                trg_kps_px=tuple(target[name] for name in shared),
                kps_ids=tuple(number_of[name] for name in shared),
                src_box_xyxy_px=boxes[0],
                trg_box_xyxy_px=boxes[1],
                mirror=0,
                viewpoint_variation=0,
                scale_variation=0,
                truncation=0,
                occlusion=0,
                file=f"{self.folder / 'pairs.jsonl'}: line {record.line}",
            )
        )

    @property
    def n_sequences(self) -> int:
        """Return how many videos there are."""
        return len(self._frames)

    def clips(self) -> Sequence[VideoRef]:
        """Return the videos, in the order of their names."""
        return [
            clip_of(f"{VIDEOS}/{name}", [ImageRef(i, path) for i, path in frames.items()])
            for name, frames in self._frames.items()
        ]

    def videos(self) -> list[Video]:
        """Return the videos whose first mask shows an object; others, and frames without, are in
        `skipped`.
        """
        videos, left_out = [], []
        for name, frames in self._frames.items():
            left_out += [
                f"{self.truth_file(i)}: no mask of frame {i}"
                for i in frames
                if not self.has_label_map(i)
            ]
            if not self.has_label_map(next(iter(frames))):
                continue
            try:
                videos.append(self._video(name, tuple(frames)))
            except DatasetError as error:
                left_out.append(str(error))
        self.skipped = [*self._unlisted, *left_out]
        if not videos:
            reason = f"; first problem: {left_out[0]}" if left_out else ""
            raise DatasetError(
                f"{self.folder / VIDEOS}: expected videos with masks, found none to use{reason}"
            )
        return videos

    def _video(self, name: str, frame_ids: tuple[str, ...]) -> Video:
        """Return a video by its first mask. Raises DatasetError where it cannot be used."""
        masks = self._frame_masks(name)
        stems = [Path(file).stem for file in sorted(masks.names) if file.endswith(".png")]
        # A mask without its frame means that the video is not whole.
        absent = [stem for stem in stems if f"{VIDEOS}/{name}/{stem}" not in frame_ids]
        if absent:
            raise DatasetError(
                f"{masks.folder}: expected a frame for each mask, found none of {first_few(absent)}"
            )
        n_objects = object_count(self.label_map(frame_ids[0]))
        if not n_objects:
            raise DatasetError(
                f"{self.truth_file(frame_ids[0])}: expected an object in the first mask, found none"
            )
        return Video(name, frame_ids, n_objects)

    def questions(self) -> list[Question]:
        """Return the lines of questions.jsonl; of those with one id the first."""
        listed, left_out = self._lines("questions.jsonl", records.question_of)
        # Reversed, so that of equal ids the first line stays.
        questions = {question.id: question for question in reversed(listed)}
        repeated = [question.id for question in listed if questions[question.id] is not question]
        left_out += [
            f"{self.folder / 'questions.jsonl'}: question {i}: a second one of this id"
            for i in repeated
        ]
        self.skipped = [*self._unlisted, *left_out]
        return [question for question in listed if questions[question.id] is question]
