"""One self-contained page about the results of stores: no model, no request, everything escaped.

`study.py` says what goes in, `render.py` puts it together, `articles.py` decides what each
command's results show, `sentences.py` says what was found. kvtool.reporting.collect fills a Study
from stores.
"""

from kvtool.reporting.render import render
from kvtool.reporting.study import KeptResult, Study, choose

__all__ = ["KeptResult", "Study", "choose", "render"]
