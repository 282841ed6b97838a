"""The lens on a terminal: how well words find their patches, layer by layer; or, of one image, the
commonest of its likeliest words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.result import Result, Row

WORDS_SHOWN = 10
"""Words of a layer that are listed."""
MEASURES = {
    "lens": "lens: the decoder's own head reads the layer",
    "directions": "directions: along directions made of sentences, without the head",
}
COLUMNS = (
    "auroc: do words find the patches that show what they name; permuted: words of other "
    "concepts; text: the words in sentences"
)
RANKS = (
    "; rank: the word's place in the vocabulary where patches show what it names, 1 the likeliest; "
    "elsewhere: where they do not; top 10: patches that show it and have it among the first ten"
)
"""What the columns say."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool lens` shows below the headline."""
    if result.task == "words":
        yield _words(result)
        return
    measures = list(dict.fromkeys(row["measure"] for row in result.rows))
    for measure in measures:
        yield _measure(result, [row for row in result.rows if row["measure"] == measure])
    has_ranks = any(row["rank"] is not None for row in result.rows)
    yield Text("; ".join([*(MEASURES[name] for name in measures), COLUMNS]) + RANKS * has_ranks)


def _measure(result: Result, rows: Sequence[Row]) -> Table:
    """Return the layers of one measure, one a line."""
    has_ranks = any(row["rank"] is not None for row in rows)
    first = rows[0]
    vocabulary = f"; rank among {result.config['n_words']} words" if has_ranks else ""
    table = _table(
        f"{first['measure']}: {first['n_concepts']} concepts, {first['n_images']} images; "
        f"chance {first['chance']:g}{vocabulary}"
    )
    columns = ["layer", "auroc", "95 %", "permuted", "text"]
    columns += ["rank", "elsewhere", "top 10"] * has_ranks
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [
            str(row["layer"]),
            area(row["auroc"]),
            f"{area(row['auroc_low'])}-{area(row['auroc_high'])}",
            area(row["permuted"]),
            area(row["text"]),
        ]
        if has_ranks:
            cells += [_rank(row["rank"]), _rank(row["rank_background"]), _share(row["top_10"])]
        table.add_row(*map(Text, cells))
    return table


def _words(result: Result) -> Table:
    """Return the commonest of the likeliest words of each layer, one a line."""
    table = _table(f"image {result.config['image']}: likeliest words, and at how many patches")
    table.add_column("layer", justify="right")
    table.add_column("patches", justify="right")
    table.add_column("words", overflow="fold")
    for layer in result.config["layers"]:
        words = [row["word"] for row in result.rows if row["layer"] == layer]
        counts = Counter(word for word in words if word is not None)
        listed = ", ".join(f"{word} {count}" for word, count in counts.most_common(WORDS_SHOWN))
        table.add_row(str(layer), str(len(words)), Text(listed))
    return table


def area(value: float | None) -> str:
    """Return an AUROC with three decimals; "-" where it is not defined."""
    return "-" if value is None else f"{value:.3f}"


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=min(len(title) + 2, 80),
    )
