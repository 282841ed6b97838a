"""Pairs of keypoints made up for tests."""

from __future__ import annotations

from kvtool.datasets.spair71k import Pair


def pair(name: str, n_points: int, wh_px: tuple[int, int] = (400, 300), step: float = 50.0) -> Pair:
    """Keypoints in a row; the target's lie 20 px lower than the source's."""
    source = tuple((20.0 + step * i, 100.0) for i in range(n_points))
    target = tuple((x, y + 20) for x, y in source)
    return Pair(
        id=name, category="cat",
        src_id=f"cat/{name}-1", trg_id=f"cat/{name}-2", src_wh_px=wh_px, trg_wh_px=wh_px,
        src_kps_px=source, trg_kps_px=target, kps_ids=tuple(10 + i for i in range(n_points)),
        src_box_xyxy_px=(0, 0, 1, 1), trg_box_xyxy_px=(0, 0, 1, 1), mirror=0, viewpoint_variation=0,
        scale_variation=0, truncation=0, occlusion=0,
    )  # fmt: skip
