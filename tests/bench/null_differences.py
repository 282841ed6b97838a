"""How often paired differences are sure at .05 where there is none: `python -m
tests.bench.null_differences`.

The figures of 1,000 studies stand in docs/measures.md, between 3 and 7 %.
"""

from __future__ import annotations

from tests.support.nulls import NULLS, share_sure

STUDIES = 1000

if __name__ == "__main__":
    for case in NULLS:
        print(f"{case}: {100 * share_sure(case, STUDIES):.1f} % of {STUDIES} studies", flush=True)
