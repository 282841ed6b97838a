"""Scores of any tool's predictions, ours or another's, by the official metrics: a file a benchmark.

The metrics are those of `kvtool.metrics`, which the probes use too. The modules beside this one
read and check the benchmarks' result files: a file that is not what the benchmark asks for is one
line that names it, and never a wrong number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvtool.bounds import checked
from kvtool.registry import Registry

if TYPE_CHECKING:
    from kvtool.result import Result

BENCHMARKS = Registry(
    "benchmark",
    {
        "davis": "kvtool.experiments.score.davis:score_davis",
        "imagenet-s": "kvtool.experiments.score.imagenet_s:score_imagenet_s",
        "bdd10k": "kvtool.experiments.score.bdd10k:score_bdd10k",
        "spair": "kvtool.experiments.score.spair:score_spair",
        "pope": "kvtool.asking.pope:score_pope",
        "mme": "kvtool.asking.mme:score_mme",
    },
)


@checked
def score(name: str, /, **options: Any) -> Result:
    """Score a benchmark's result files, as `kvtool score NAME` with its options by the same names.

    Raises UsageError for an unknown benchmark.
    """
    result: Result = BENCHMARKS.load(name)(**options)
    return result
