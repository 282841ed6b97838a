"""One self-contained page about the results of stores: no model, no request, everything escaped.

`study.py` says what goes in, `render.py` puts it together, `articles.py` decides what each command's results show,
`sentences.py` says what was found. kvtool.analysis.report fills a Study from stores.
"""

from kvtool.reports.page.render import render
from kvtool.reports.page.study import Drawn, Kept, Study, choose

__all__ = ["Drawn", "Kept", "Study", "choose", "render"]
