"""Stars that are fitted together, and in which order, so that the result is always the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Array = NDArray[Any]
SHORTER = 0.8
"""A group that is too large is linked anew with so much shorter links."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Groups of one tile of the image: group k has members[starts[k] : starts[k + 1]]."""

    starts: Array
    members: Array


def friends(x: Array, y: Array, link: float, most: int) -> Array:
    """A group number for each star: stars closer than `link` are friends, and friends' friends.

    most : stars of a group; larger ones fall apart into groups with shorter links
    returns int64 (n,), 0, 1, 2 ... in the order of their first members
    """
    label = np.zeros(len(x), np.int64)
    where = np.stack([x, y], axis=1).astype(float)
    todo = np.arange(len(x))
    used = 0
    while len(todo):
        pairs = cKDTree(where[todo]).query_pairs(link, output_type="ndarray")
        ones = np.ones(len(pairs), np.int8)
        graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(todo), len(todo)))
        # Only stars of what was one group before are linked again: links get shorter.
        _, part = connected_components(graph, directed=False)
        size = np.bincount(part)
        small = (size[part] <= most) | (link < 1e-3)
        label[todo[small]] = used + part[small]
        used += part.max() + 1
        todo, link = todo[~small], link * SHORTER
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    result: Array = rank[inverse]
    return result


def batches(x: Array, y: Array, light: Array, group: Array, reach: float) -> list[list[Batch]]:
    """Groups by tiles, in four colours: tiles of one colour are too far apart to touch.

    light : how bright each star is, roughly: bright groups come first, bright stars in a group too
    reach : pixels that a star touches around itself
    """
    if not len(x):
        return []
    order = np.lexsort((np.arange(len(x)), -light, group))
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    leader = order[starts]
    number = np.diff(np.r_[starts, len(order)])
    of = np.repeat(leader, number)
    extent = float(np.max(np.hypot(x[order] - x[of], y[order] - y[of])))
    tile = max(256.0, 2 * (reach + extent) + 4)
    column, row = (x[leader] // tile).astype(int), (y[leader] // tile).astype(int)
    colour = 2 * (row % 2) + column % 2
    first = np.lexsort((leader, -light[leader], column, row, colour))
    result: list[list[Batch]] = []
    for c in range(4):
        here = first[colour[first] == c]
        cuts = np.flatnonzero(np.diff(row[here]) | np.diff(column[here])) + 1
        tiles = [part for part in np.split(here, cuts) if len(part)]
        result.append([_batch(part, order, starts, number) for part in tiles])
    return result


def _batch(part: Array, order: Array, starts: Array, number: Array) -> Batch:
    members = np.concatenate([order[starts[k] : starts[k] + number[k]] for k in part])
    return Batch(np.r_[0, np.cumsum(number[part])].astype(np.int64), members.astype(np.int64))
