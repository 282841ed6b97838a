"""Clusters that images of a class share, and which of them are the object (co-segmentation).

After "Deep ViT features as dense visual descriptors" (Amir et al. 2022): their number grows until
another one explains little more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kvtool.features.kmeans import assign, kmeans

Array = np.ndarray[Any, Any]

ELBOW = 0.975
MOST_CLUSTERS = 14
FIT_ALL_BELOW = 10_000
FIT_EVERY = 100

BORDER_SHARE = 0.5
"""A cluster is the object where its share of the border is below so much of its share of the
inside, see docs/decisions/probes-saliency.md."""

SALIENT = 0.065
"""The published cut of DINO's attention, with the share of images that must exceed it."""
VOTES = 0.75


def shared_clusters(
    values: Sequence[Tensor], *, restarts: int = 10, seed: int = 0
) -> tuple[list[Array], Array]:
    """Cluster the unit vectors of several images together.

    Args:
        values: Of each image (head, token, dim).
        restarts: The starts of each k-means.
        seed: The random seed of the starts.

    Returns:
        The labels of each image (head, token), and the number of clusters (head,).
    """
    # Where each image's tokens begin among those of all.
    ends = np.cumsum([0, *(image.shape[1] for image in values)])
    # Unit vectors, so that their direction alone counts, not their length.
    units = [normalize(image, dim=-1) for image in values]
    labels, k, _ = choose_clusters(units, restarts=restarts, seed=seed)
    return [labels[:, start:stop] for start, stop in pairwise(ends)], k


def choose_clusters(
    units: Sequence[Tensor], *, restarts: int = 10, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Cluster labels (head, token of all images), their number k (head,), and the mean squared
    distance for each k tried (head, k), NaN beyond the head's own.

    k grows until SSE_k > 0.975 SSE_{k-1}, which then is the k, and is 14 at most. Centroids are
    fitted on every 100th token of each image, or on all where they are fewer than 10,000.
    """
    # All images at once: a cluster is of the class, not of an image.
    points = torch.cat(list(units), dim=1)
    fitted = (
        points
        if points.shape[1] < FIT_ALL_BELOW
        else torch.cat([u[:, ::FIT_EVERY] for u in units], dim=1)
    )
    # Each head is a problem of its own, and may end at another number of clusters.
    heads = len(points)
    labels = np.zeros(points.shape[:2], np.int64)
    k_of_head = np.zeros(heads, np.int64)
    sse = np.full((heads, MOST_CLUSTERS), np.nan)
    active = np.arange(heads)
    for k in range(1, MOST_CLUSTERS + 1):
        # Heads that have their number of clusters take no part any more.
        rows = torch.as_tensor(active, device=points.device)
        centroids = kmeans(fitted[rows], k, restarts=restarts, seed=seed)
        label, distance = assign(points[rows], centroids)
        labels[active] = label.cpu().numpy()
        k_of_head[active] = k
        sse[active, k - 1] = distance.mean(1, dtype=torch.float64).cpu().numpy()
        # The elbow: a head goes on while another cluster takes off 2.5 % or more.
        if k > 1:
            active = active[sse[active, k - 1] <= ELBOW * sse[active, k - 2]]
        if not len(active):
            break
    return labels, k_of_head, sse


def object_clusters(
    labels: Sequence[Array],
    grids: Sequence[tuple[int, int]],
    saliency: Sequence[Array] | None,
    k: int,
) -> Array:
    """Tell which clusters are the object, (k,) bool: by saliency where there is one, else by where
    they lie.

    Args:
        labels: Of each image (token,), row by row.
        grids: Rows and columns of each image.
        saliency: Of each image (token,), from 0 to 1.
        k: The number of clusters.
    """
    if saliency is None:
        return inside_clusters(labels, grids, k)
    return salient_clusters(labels, saliency, k)


def inside_clusters(labels: Sequence[Array], grids: Sequence[tuple[int, int]], k: int) -> Array:
    """Tell which clusters are the object, (k,) bool: those that lie inside the images.

    Over all images, an object's cluster has less than half the share of the border's tokens that it
    has of the others. A background's has as much or more, also where it is of several materials or
    fell into several clusters.

    Args:
        labels: Of each image (token,), row by row.
        grids: Rows and columns of each image.
        k: The number of clusters.
    """
    counts = np.zeros((2, k))
    for label, grid in zip(labels, grids, strict=True):
        # The outermost rows and columns of the grid.
        border = np.ones(grid, bool)
        border[1:-1, 1:-1] = False
        # The border's tokens first, then those inside.
        for row, side in enumerate((border, ~border)):
            counts[row] += np.bincount(label[side.reshape(-1)], minlength=k)
    # Shares of the border's and of the inside's tokens that fall to each cluster.
    on_border, inside = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_object: Array = on_border < BORDER_SHARE * inside
    return is_object


def salient_clusters(labels: Sequence[Array], saliency: Sequence[Array], k: int) -> Array:
    """Tell which clusters are the object, (k,) bool, by the published vote, see count_votes.

    Args:
        labels: Of each image (token,).
        saliency: Of each image (token,), from 0 to 1.
        k: The number of clusters.
    """
    # The smallest whole number of images that is three quarters of them.
    is_object: Array = count_votes(labels, saliency, k) >= np.ceil(VOTES * len(labels))
    return is_object


def count_votes(labels: Sequence[Array], saliency: Sequence[Array], k: int) -> Array:
    """(k,) number of images in which a cluster's mean saliency exceeds 0.065; absent from an image,
    it gets no vote.

    The published vote: saliency is DINO's attention, and a cluster is the object that has VOTES of
    the images.
    """
    votes = np.zeros(k, np.int64)
    for label, salient in zip(labels, saliency, strict=True):
        # Means are compared as sums, so that a cluster absent from the image divides nothing.
        count = np.bincount(label, minlength=k)
        total = np.bincount(label, weights=salient, minlength=k)
        votes += (count > 0) & (total > SALIENT * np.maximum(count, 1))
    return votes
