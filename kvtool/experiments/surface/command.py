"""kvtool surface: paired tasks answered by the model and its image values together."""

from __future__ import annotations

from typing import Annotated

from kvtool.cli import console
from kvtool.cli.completion import complete_surface
from kvtool.cli.options import (
    AfterQuestionOption,
    DataOption,
    DevicesOption,
    FormatOption,
    FreshAnswersOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    MaxNewTokensOption,
    ModelFolderOption,
    PlotOption,
    QuestionDtypeOption,
    RowsOption,
    RunOption,
    StyleOption,
    WaitOption,
    bounded,
    seed_of,
    store_and_word,
    store_argument,
    task_argument,
)
from kvtool.cli.parsing import (
    given,
    parse_folder,
    parse_heads,
    parse_kinds,
    parse_layers,
    parse_model,
)
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.errors import PartialError

EXAMPLES = (
    "kvtool surface study.kv art-style",
    "kvtool surface study.kv art-style --blocks 4 --plot surface.pdf",
    "kvtool surface study.kv art-style --kinds key,value --format json",
)


BlocksOption = Annotated[
    int,
    bounded("blocks", help="Number of blocks whose evidence is added, the best of the other half."),
]
QuestionsOption = Annotated[
    int | None,
    bounded(
        "n",
        "--limit",
        "--n",
        help="Largest number of questions. semantic-correspondence makes 200 by default.",
    ),
]


def surface(
    store: Annotated[str | None, store_argument(complete_surface)] = None,
    task: Annotated[str | None, task_argument(complete_surface)] = None,
    run: RunOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    blocks: BlocksOption = 1,
    n: QuestionsOption = None,
    style: StyleOption = "plain",
    after_question: AfterQuestionOption = "",
    question_dtype: QuestionDtypeOption = None,
    max_new_tokens: MaxNewTokensOption = 16,
    model: ModelFolderOption = None,
    data: DataOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the questions, halves, intervals and permutations")] = 0,
    fresh: FreshAnswersOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Answer questions by the model and its image values together.

    TASK: semantic-correspondence (four marked points, made of SPair-71k's pairs), art-style,
    visual-similarity (BLINK's val split), image-choice (your questions, a choice each an image).

    The values' evidence for each option is added to the model's log-probability of it. Block and
    weight are chosen on one half of the pictures and scored on the other, both ways round. Rows:
    the model by its log-probabilities, and by what it writes; the values; both (fused); either of
    them right; and fused with the values of other questions (permuted), which can gain by luck
    alone. gained is the share of what the values alone know, lost that of what the model knows.

    Answers and log-probabilities are kept: the weights are loaded for missing ones alone.
    """
    import kvtool
    from kvtool.cli.output import emit_result, plot_files

    plots = plot_files(plot)
    path, name = store_and_word(store, task, "TASK")
    with console.progress(f"surface {name}", None, unit="answers and blocks") as advance:
        result = kvtool.surface(
            path,
            name,
            run=run,
            blocks=blocks,
            style=style,
            after_question=after_question,
            question_dtype=question_dtype,
            max_new_tokens=max_new_tokens,
            model=parse_model(model),
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **given(
                kinds=parse_kinds(kinds),
                layers=parse_layers(layers),
                heads=parse_heads(heads),
                n=n,
                data=parse_folder(data),
            ),
        )
    for line in result.skipped:
        console.log.warning("left out: %s", line)
    emit_result(result, format, plots, rows)
    if result.n_unusable:
        raise PartialError(
            f"surface {name}: {result.n_unusable} questions cannot be used and were left out, "
            f"{result.n} scored"
        )
