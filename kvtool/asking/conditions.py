"""Scores of a benchmark's answers under conditions side by side, tested against the first one.

Questions about one picture are not independent, and POPE asks some of them in several files. So
intervals resample pictures, whole with all that is asked about them; McNemar's test counts each
question about a picture once; and a second test swaps the conditions picture by picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from kvtool.asking.benchmarks import Benchmark
from kvtool.asking.condition_answers import Answers, subject_of
from kvtool.asking.guessing import guesses
from kvtool.asking.parts import Guess, ScoredPart, mean_over_draws
from kvtool.asking.records import numbered, scored, side_by_side
from kvtool.datasets.base import Question
from kvtool.result import Row, best_row
from kvtool.stats.bootstrap import Array, Scores, pooled
from kvtool.stats.mcnemar import mcnemar
from kvtool.stats.multiple import with_holm
from kvtool.stats.permutation import swapped

TESTS = {"mcnemar_p": "mcnemar_holm_p", "picture_p": "picture_holm_p"}
"""Each test's p, and the same corrected for the number of conditions."""


def score_conditions(
    benchmark: Benchmark,
    questions: Sequence[Question],
    conditions: Sequence[Answers],
    seed: int,
    digests: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return the rows of each condition: all groups together, then each group.

    Of several draws their mean comes first, then each draw with all groups together. Every
    condition is tested against the first one, unless it did the same. The tests of all conditions
    on the same questions are corrected together, and those of single draws among themselves; those
    of conditions that did the same count once.

    Args:
        benchmark: How answers are read and scored.
        questions: The questions.
        conditions: Their answers under each condition.
        seed: The random seed of intervals and tests.
        digests: What tells the pictures of image ids apart, by default the ids: a benchmark may
            have one picture under several.
    """
    return AnswerSheet(benchmark, questions, digests or {}, seed).score(conditions)


class AnswerSheet:
    """The questions of a benchmark group by group, as their answers are scored."""

    def __init__(
        self,
        benchmark: Benchmark,
        questions: Sequence[Question],
        digests: Mapping[str, str],
        seed: int,
    ) -> None:
        self.benchmark = benchmark
        self.questions = questions
        self.seed = seed
        self._options: dict[str, Array] = {}
        self.truth = np.array([benchmark.truth(question) for question in questions])
        self.chance_rows: list[Row] = []
        """What each predictor that knows nothing gets, of all parts whose rows were made."""
        self._guesses: dict[str, Guess | None] = {}
        # One picture has several ids in a benchmark: its digest tells which questions are about it.
        images = [question.image_ids[0] for question in questions]
        self.pictures = numbered(digests.get(image) or image for image in images)
        prompts = [question.prompt for question in questions]
        self.distinct = numbered(zip(self.pictures.tolist(), prompts, self.truth, strict=True))
        """The number of each question about a picture: the same where the words are."""

    def score(self, conditions: Sequence[Answers]) -> list[Row]:
        """Return the rows of all conditions, see score_conditions."""
        rows: list[Row] = []
        # Every condition but the first is tested against it: that is the model as it is.
        for name in dict.fromkeys(condition.condition for condition in conditions):
            draws = [condition for condition in conditions if condition.condition == name]
            rows += self.rows(draws, None if name == conditions[0].condition else conditions[0])
        # Tests of one part of the benchmark are one family: each condition adds one to it.
        label = self.benchmark.label
        for p, corrected in TESTS.items():
            rows = with_holm(
                rows,
                p,
                corrected,
                lambda row: (row.get(label), "draw" in row),
                lambda row: subject_of(row, conditions),
            )
        return rows

    @cached_property
    def parts(self) -> list[ScoredPart]:
        """All groups together, then each group alone."""
        benchmark = self.benchmark
        # Groups are strata of what is scored together, and parts of their own.
        labels = np.array([question.group for question in self.questions])
        groups = {name: np.flatnonzero(labels == name) for name in dict.fromkeys(labels.tolist())}
        top = benchmark.top
        together = tuple(groups.values())
        return [
            ScoredPart(together, {}, benchmark.all_scores(list(groups)), top(len(groups))),
            *(
                ScoredPart((indices,), {benchmark.label: name}, benchmark.group_scores, top(1))
                for name, indices in groups.items()
            ),
        ]

    def options(self, answers: Answers) -> Array:
        """Return the options that the answers name, (question,), read once of each condition."""
        if answers.label not in self._options:
            pairs = zip(answers.texts, self.questions, strict=True)
            self._options[answers.label] = np.array(
                [self.benchmark.read_option(text, question) for text, question in pairs]
            )
        return self._options[answers.label]

    def correct(self, answers: Answers) -> Array:
        """Return which answers are right, (question,) bool."""
        correct: Array = self.options(answers) == self.truth
        return correct

    def score_of(self, answers: Answers) -> float:
        """Return the primary metric of a condition's answers, of all groups together."""
        part = self.parts[0]
        units = self._units(self.options(answers), part)
        return float(part.scores(units.sum(axis=0))[self.benchmark.metric])

    def rows(self, draws: Sequence[Answers], baseline: Answers | None) -> Iterator[Row]:
        """Yield the condition's rows; with several draws the first ones are means over them,
        without tests."""
        labels: Row = {"condition": draws[0].condition}
        # One draw is a row of each part, and can be tested.
        if len(draws) == 1:
            for part in self.parts:
                yield self._row(labels, draws, baseline, part)
            return
        # Several draws have one mean for each part; each draw alone only the row of all groups.
        for part in self.parts:
            yield self._row(labels | {"draw": "all"}, draws, None, part)
        for answers in draws:
            yield self._row(labels | {"draw": answers.draw}, [answers], baseline, self.parts[0])

    def _row(
        self, labels: Row, draws: Sequence[Answers], baseline: Answers | None, part: ScoredPart
    ) -> Row:
        # Draws stand side by side as columns: a resample takes the same questions in all of them.
        units = np.concatenate([self._units(self.options(answers), part) for answers in draws], 1)
        scores = self._scored(units, len(draws), part)
        pictures, _ = self._pictures(part, len(units))
        counts = {"n": len(units), "n_pictures": len(np.unique(pictures))}
        row = {**labels, "n_heads": draws[0].n_heads, **part.label, **scores, **counts}
        row |= self._beside_chance(units, len(draws), part)
        row |= self._counts(draws, part)
        # The tests are of one draw: several have no common answer to a question.
        if baseline is None or draws[0].subject == baseline.subject:
            return row
        return row | self._tests(draws[0], baseline, part)

    def _scored(
        self, units: Array, n_draws: int, part: ScoredPart, scores: Scores | None = None
    ) -> Row:
        """Return scores of a part's units (unit, draw * k) with intervals by picture; by default
        the part's, averaged over the draws."""
        pictures, strata = self._pictures(part, len(units))
        return scored(
            units,
            scores or mean_over_draws(part.scores, n_draws),
            strata=strata,
            clusters=pictures,
            seed=self.seed,
            top=part.top,
        )

    def _beside_chance(self, units: Array, n_draws: int, part: ScoredPart) -> Row:
        """Return what knows nothing gets of a part, and by how much a condition's units differ
        from it; {} where no question has options to guess from."""
        guess = self._guess(part)
        if guess is None:
            return {}
        # The condition's columns come first, then those of the guess.
        n_columns = units.shape[1]
        metric = self.benchmark.metric
        ours, theirs = (mean_over_draws(part.scores, count) for count in (n_draws, guess.n_draws))

        def difference(sums: Array) -> dict[str, Array]:
            """Score both in the same resamples."""
            # In one resample both have the same questions, or their difference would be as
            # uncertain as two independent scores.
            score, chance = ours(sums[..., :n_columns]), theirs(sums[..., n_columns:])
            return {"chance_difference": score[metric] - chance[metric]}

        side_by_side_units = np.concatenate([units, guess.units], axis=1)
        row = guess.row | self._scored(side_by_side_units, 1, part, difference)
        # Better than chance means that the whole interval of the difference lies above zero.
        low = row["chance_difference_low"]
        return row | {"exceeds_chance": None if low is None else low > 0}

    def _guess(self, part: ScoredPart) -> Guess | None:
        """Return the best predictor that knows nothing of a part, scored once for all conditions;
        the rows of all predictors go into chance_rows."""
        key = repr(part.label)
        if key in self._guesses:
            return self._guesses[key]
        rows = []
        guess_units = []
        for name, draws in self._guessed.items():
            # Draws stand side by side as further columns, so that a resample draws questions for
            # all at once.
            units = np.concatenate([self._units(options, part) for options in draws], axis=1)
            scores = self._scored(units, len(draws), part)
            rows.append({"predictor": name, **part.label, **scores})
            rows[-1] |= {"n": len(units), "draws": len(draws)}
            guess_units.append(units)
        self.chance_rows += rows
        metric = self.benchmark.metric
        # Chance is the strongest predictor that sees no picture: the hardest one to beat.
        best = best_row(rows, metric)
        self._guesses[key] = None
        if best is not None:
            row = {f"chance{end}": best[metric + end] for end in ("", "_low", "_high")}
            row["chance_kind"] = best["predictor"]
            self._guesses[key] = Guess(row, guess_units[rows.index(best)], best["draws"])
        return self._guesses[key]

    @cached_property
    def _guessed(self) -> dict[str, list[Array]]:
        """The options that predictors that know nothing say, draw by draw."""
        return guesses(self.questions, self.truth, self.seed)

    def _units(self, options: Array, part: ScoredPart) -> Array:
        """Return the units of a part's answers, each group in its columns: (unit, group * k)."""
        is_yes = options == "yes"
        correct = options == self.truth
        # Sums keep groups apart, of which the scores take means.
        units, _ = side_by_side(
            [self.benchmark.units(is_yes[indices], correct[indices]) for indices in part.groups]
        )
        return units

    def _pictures(self, part: ScoredPart, n_units: int) -> tuple[Array, Array]:
        """Return the picture of each unit, and the group within which it is resampled: the first
        that asks about the picture."""
        # A unit may be two questions about one picture, as MME's are: every other one names it.
        per_unit = len(part.questions) // n_units
        pictures = self.pictures[part.questions][::per_unit]
        group = np.repeat(np.arange(len(part.groups)), [len(indices) for indices in part.groups])
        return pictures, group[::per_unit]

    def _first(self, part: ScoredPart) -> Array:
        """Return the indices of a part's questions without those asked before in the same part."""
        first = np.unique(self.distinct[part.questions], return_index=True)[1]
        indices: Array = part.questions[first]
        return indices

    def _counts(self, draws: Sequence[Answers], part: ScoredPart) -> Row:
        """Count questions, those without an answer, and answers that are no option."""
        n_other = [(self.options(answers)[part.questions] == "other").sum() for answers in draws]
        n_empty = [
            sum(not answers.texts[index].strip() for index in part.questions) for answers in draws
        ]
        return {
            "n_questions": len(part.questions),
            "n_distinct": len(self._first(part)),
            "n_other": _mean(n_other),
            "n_empty": _mean(n_empty),
        }

    def _tests(self, answers: Answers, baseline: Answers, part: ScoredPart) -> Row:
        """Test whether a condition differs from the baseline, in answers and in the metric."""
        distinct = self._first(part)
        # McNemar's pairs must be independent: an equal question about one picture counts once.
        test = mcnemar(self.correct(baseline)[distinct], self.correct(answers)[distinct])
        # Questions of a picture depend on each other: this test swaps conditions of whole pictures.
        units = [self._units(self.options(condition), part) for condition in (answers, baseline)]
        pictures, _ = self._pictures(part, len(units[0]))
        first, second = (pooled(condition_units, None, pictures)[0] for condition_units in units)
        return {
            "n_lost": test.lost,
            "n_gained": test.gained,
            "mcnemar_p": test.p,
            "mcnemar_mid_p": test.mid_p,
            "picture_p": swapped(first, second, part.scores, self.benchmark.metric, seed=self.seed),
        }


def _mean(counts: Sequence[int]) -> int | float:
    """Return the mean of counts over draws; of one draw the count itself."""
    return int(counts[0]) if len(counts) == 1 else float(np.mean(counts))
