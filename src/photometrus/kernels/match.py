"""Match two lists of points: shift by voting, nearest pairs."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True)
def vote(x_a, y_a, x_b, y_b, half_width, cell, votes):
    """Histogram of all differences b - a within +-half_width, in cells.

    x_a, y_a, x_b, y_b : float64 (n,), (m,), same unit as half_width and cell
    votes : int32 (k, k), set; k = ceil(2 half_width / cell)
    """
    votes[:] = 0
    k = votes.shape[0]
    order = np.argsort(x_b)
    sorted_x = x_b[order]
    for i in range(x_a.size):
        start = np.searchsorted(sorted_x, x_a[i] - half_width)
        for j in range(start, sorted_x.size):
            dx = sorted_x[j] - x_a[i]
            if dx >= half_width:
                break
            dy = y_b[order[j]] - y_a[i]
            if -half_width <= dy < half_width:
                votes[
                    min(int((dy + half_width) / cell), k - 1),
                    min(int((dx + half_width) / cell), k - 1),
                ] += 1


@njit(nogil=True, cache=True)
def best_cell(votes):
    """The 3 x 3 cells with most votes: (row, column, votes in them)."""
    k = votes.shape[0]
    best = -1
    row = 0
    column = 0
    for j in range(1, k - 1):
        for i in range(1, k - 1):
            total = 0
            for b in range(-1, 2):
                for a in range(-1, 2):
                    total += votes[j + b, i + a]
            if total > best:
                best = total
                row = j
                column = i
    return row, column, best
