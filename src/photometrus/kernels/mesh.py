"""A smooth background on a mesh: robust values of cells, and rows interpolated from them."""

import numpy as np

from photometrus.compiled import njit


@njit(nogil=True, cache=True)
def cell_modes(data, hide, cell, y_offset, values, scatter, count, skip=0):
    """Clipped mean of the pixels that are not hidden, for each cell of a strip of rows.

    data : float32 (h, nx); hide : uint8 (h, nx), not 0 = not used
    cell : side of a cell, pixels; the strip's first row is y_offset of the image and lies on a
        cell boundary
    values, scatter : float32 (gy, gx); count : int32 (gy, gx); rows of the strip's cells are set
    skip : rows and columns of the first cells that lie before the image: with a trimmed border
        the cells are those of the detector

    Clipping at 3 sigma about the median; 2.5 median - 1.5 mean is not used, since what is left of
    unresolved stars should be hidden, not guessed.
    """
    h, nx = data.shape
    gx = values.shape[1]
    buffer = np.empty(cell * cell, np.float32)
    first = (y_offset + skip) // cell
    last = (y_offset + h - 1 + skip) // cell
    for j in range(first, min(last + 1, values.shape[0])):
        top = j * cell - skip - y_offset
        start, end = max(0, top), min(h, top + cell)
        for i in range(gx):
            # A cell is told by its bounds: views of it would cost as much as its sums.
            left, right = max(0, i * cell - skip), min(nx, (i + 1) * cell - skip)
            n = _not_hidden(hide, start, end, left, right)
            count[j, i] = n
            if n == 0:
                values[j, i] = np.nan
                scatter[j, i] = np.nan
                continue
            # A start from some of the pixels; the clipped mean then takes all of them.
            some = buffer[: _some(data, hide, start, end, left, right, n, buffer)]
            mean = float(np.median(some))
            sigma = 1.4826 * float(np.median(np.abs(some - np.float32(mean))))
            for _ in range(3):
                middle = np.float32(mean)
                total, square, m = _clipped_sums(
                    data, hide, start, end, left, right, middle, np.float32(3 * sigma)
                )
                if m < 2:
                    break
                mean = float(middle) + total / m
                sigma = np.sqrt(max(square / m - (total / m) ** 2, 0.0))
            values[j, i] = mean
            scatter[j, i] = sigma


@njit(nogil=True, cache=True)
def _not_hidden(hide, top, end, left, right):
    """How many pixels of a cell are not hidden."""
    n = np.int64(0)
    for y in range(top, end):
        seen = np.int32(0)
        line = hide[y, left:right]
        for x in range(line.size):
            seen += np.int32(line[x] == 0)
        n += seen
    return n


@njit(nogil=True, cache=True)
def _some(data, hide, top, end, left, right, n, some):
    """Copy some 128 or more of a cell's n pixels that are not hidden to `some`: how many."""
    # An odd step, so that they are not of the same few columns.
    step = min(64, n // 128) | 1
    m = 0
    x = left
    for y in range(top, end):
        while x < right:
            some[m] = data[y, x]
            m += hide[y, x] == 0
            x += step
        x -= right - left
    return m if m > 0 or step == 1 else _some_of_all(data, hide, top, end, left, right, some)


@njit(nogil=True, cache=True)
def _some_of_all(data, hide, top, end, left, right, some):
    """Copy all of a cell's pixels that are not hidden to `some`: how many."""
    m = 0
    for y in range(top, end):
        for x in range(left, right):
            some[m] = data[y, x]
            m += hide[y, x] == 0
    return m


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _clipped_sums(data, hide, top, end, left, right, middle, limit):
    """Of a cell's pixels not hidden and within `limit` of `middle`: sums of d, of d^2, their n.

    d is the difference from `middle`. A row's sums are in float32, with which a processor does
    many at once; one float64 among its numbers makes it four times as slow.
    """
    total, square, n = np.float64(0), np.float64(0), np.int64(0)
    for y in range(top, end):
        row, row2, m = np.float32(0), np.float32(0), np.int32(0)
        line, hidden = data[y, left:right], hide[y, left:right]
        for x in range(line.size):
            d = line[x] - middle
            near = (abs(d) <= limit) & (hidden[x] == 0)
            m += np.int32(near)
            d = d if near else np.float32(0)
            row += d
            row2 += d * d
        total += row
        square += row2
        n += m
    return total, square, n


@njit(nogil=True, cache=True)
def row_sums(data, hide, cell, y_offset, values, scatter, sums, count, skip=0):
    """For each row of a strip, in each cell: the sum of the pixels near the cell's value.

    data, hide, cell, y_offset, values, scatter, skip : as in `cell_modes`, which came before
    sums : float32 (ny, gx), of the whole image; count : int32 (ny, gx); the strip's rows are set
    """
    h, nx = data.shape
    for y in range(h):
        j = (y_offset + y + skip) // cell
        for i in range(values.shape[1]):
            left, right = max(0, i * cell - skip), min(nx, (i + 1) * cell - skip)
            sums[y_offset + y, i], count[y_offset + y, i] = _near_sum(
                data, hide, y, left, right, values[j, i], np.float32(3) * scatter[j, i]
            )


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"})
def _near_sum(data, hide, y, left, right, middle, limit):
    """Sum and count of what in a part of a row is not hidden and within `limit` of `middle`."""
    total = np.float32(0)
    n = np.int32(0)
    line, hidden = data[y, left:right], hide[y, left:right]
    for x in range(line.size):
        near = (abs(line[x] - middle) <= limit) & (hidden[x] == 0)
        total += line[x] if near else np.float32(0)
        n += np.int32(near)
    return total, n


@njit(nogil=True, cache=True)
def _cubic(p, t):
    """Catmull-Rom through p[1] and p[2] at t in 0..1."""
    return p[1] + 0.5 * t * (
        p[2]
        - p[0]
        + t * (2 * p[0] - 5 * p[1] + 4 * p[2] - p[3] + t * (3 * (p[1] - p[2]) + p[3] - p[0]))
    )


@njit(nogil=True, cache=True)
def _node(values, i):
    """A value of a row of nodes; beyond its ends, what the straight line through the last two says.

    So a gradient is followed to the edge of the image, half a cell beyond the last node.
    """
    n = values.size
    if n == 1:
        return values[0]
    if i < 0:
        return values[0] + i * (values[1] - values[0])
    if i >= n:
        return values[n - 1] + (i - n + 1) * (values[n - 1] - values[n - 2])
    return values[i]


@njit(nogil=True, cache=True)
def _row_of_nodes(mesh, t, column):
    """The mesh at row t (in cells, 0 at the first node) and at its own columns: sets `column`."""
    j = int(np.floor(t))
    p = np.empty(4, np.float64)
    for i in range(mesh.shape[1]):
        for k in range(4):
            p[k] = _node(mesh[:, i], j - 1 + k)
        column[i] = _cubic(p, t - j)


@njit(nogil=True, cache=True)
def mesh_nodes(mesh, cell, out, skip=0):
    """The mesh at every row of an image, at the columns of its nodes: out float32 (ny, gx)."""
    column = np.empty(mesh.shape[1], np.float64)
    for y in range(out.shape[0]):
        _row_of_nodes(mesh, (y + skip + 0.5) / cell - 0.5, column)
        for i in range(column.size):
            out[y, i] = column[i]


@njit(nogil=True, cache=True)
def _wide_row(mesh, j, cell, skip, line):
    """Row j of the mesh (beyond its ends, too) at all columns of the image: sets `line`."""
    gx = mesh.shape[1]
    nx = line.size
    column = np.empty(gx, np.float64)
    for i in range(gx):
        column[i] = _node(mesh[:, i], j)
    p = np.empty(4, np.float64)
    # One cubic per stretch between two nodes, its coefficients worked out once.
    for i in range(-1, gx):
        start = max(0, int(np.ceil((i + 0.5) * cell - 0.5)) - skip)
        end = min(nx, int(np.ceil((i + 1.5) * cell - 0.5)) - skip)
        if start >= end:
            continue
        for k in range(4):
            p[k] = _node(column, i - 1 + k)
        b = 0.5 * (p[2] - p[0])
        c = p[0] - 2.5 * p[1] + 2.0 * p[2] - 0.5 * p[3]
        d = 0.5 * (3.0 * (p[1] - p[2]) + p[3] - p[0])
        for x in range(start, end):
            u = (x + skip + 0.5) / cell - 0.5 - i
            line[x] = p[1] + u * (b + u * (c + u * d))


@njit(nogil=True, cache=True)
def _mesh_line(mesh, cell, y, skip, wide, above, line):
    """The mesh at one row of an image, at all its columns: sets `line`; returns the node above.

    wide : float32 (4, nx), the four rows of the mesh around node `above` at all columns; they are
        worked out anew for the first row (`above` = -2) and where another node is above
    """
    t = (y + skip + 0.5) / cell - 0.5
    j = int(np.floor(t))
    if j != above:
        for k in range(4):
            _wide_row(mesh, j - 1 + k, cell, skip, wide[k])
    # Between nodes, row by row, a cubic of the weights.
    u = t - j
    w0 = np.float32(0.5 * u * (u * (2.0 - u) - 1.0))
    w1 = np.float32(1.0 + u * u * (1.5 * u - 2.5))
    w2 = np.float32(0.5 * u * (1.0 + u * (4.0 - 3.0 * u)))
    w3 = np.float32(0.5 * u * u * (u - 1.0))
    a, b, c, d = wide[0], wide[1], wide[2], wide[3]
    for x in range(line.size):
        line[x] = w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x]
    return j


@njit(nogil=True, cache=True)
def add_mesh_rows(out, mesh, cell, y0, factor, skip=0):
    """Add `factor` times the mesh, interpolated (Catmull-Rom), to rows y0... of an image.

    out : float32 (rows, nx), changed; mesh : float32 (gy, gx), values at cell centres, finite
    skip : as in `cell_modes`
    """
    rows, nx = out.shape
    wide = np.empty((4, nx), np.float32)
    own = np.empty(nx, np.float32)
    above = -2
    for r in range(rows):
        above = _mesh_line(mesh, cell, y0 + r, skip, wide, above, own)
        line = out[r]
        for x in range(nx):
            line[x] += np.float32(factor) * own[x]


@njit(nogil=True, cache=True)
def subtract_sky(data, sky, scale, mesh, cell, columns, rows, y0, skip):
    """Take `scale` times a sky, and what a frame has of its own, out of its rows y0...

    data : float32 (n, nx), changed; sky : float32 (n, nx)
    mesh, cell, skip : as in `add_mesh_rows`; columns : float32 (nx,); rows : float32 (n,)
    """
    n, nx = data.shape
    wide = np.empty((4, nx), np.float32)
    own = np.empty(nx, np.float32)
    above = -2
    for r in range(n):
        above = _mesh_line(mesh, cell, y0 + r, skip, wide, above, own)
        line, common, offset = data[r], sky[r], rows[r]
        for x in range(nx):
            own[x] += columns[x] + offset
        for x in range(nx):
            line[x] -= scale * common[x] + own[x]


@njit(nogil=True, cache=True, error_model="numpy")
def vote(data, bad, hide, scale, mesh, cell, columns, rows, y0, skip, out):
    """What a frame's rows y0... say of the sky, less what is the frame's own.

    data : float32 (n, nx), ADU; bad, hide : uint8 (n, nx), not 0 where it has no vote
    scale : float32, the frame's level, ADU; mesh to skip : as in `subtract_sky`
    out : float32 (n, nx), set: in units of the level, NaN where it says nothing
    """
    n, nx = data.shape
    wide = np.empty((4, nx), np.float32)
    own = np.empty(nx, np.float32)
    above = -2
    for r in range(n):
        above = _mesh_line(mesh, cell, y0 + r, skip, wide, above, own)
        line, dead, hidden, said, offset = data[r], bad[r], hide[r], out[r], rows[r]
        for x in range(nx):
            own[x] = (line[x] - (own[x] + columns[x] + offset)) / scale
        for x in range(nx):
            said[x] = own[x] if (dead[x] | hidden[x]) == 0 else np.float32(np.nan)


@njit(nogil=True, cache=True)
def residual(data, bad, hide, sky, scale, out, hidden):
    """What a frame is beside `scale` times a sky, and where it is not to be looked at.

    data, sky : float32 (n, nx); bad, hide : uint8 (n, nx), not 0 = not used
    out : float32 (n, nx), hidden : uint8 (n, nx), set
    """
    for r in range(data.shape[0]):
        line, common, rest = data[r], sky[r], out[r]
        dead, star, either = bad[r], hide[r], hidden[r]
        for x in range(line.size):
            rest[x] = line[x] - scale * common[x]
        for x in range(line.size):
            either[x] = dead[x] | star[x]


@njit(nogil=True, cache=True)
def cell_medians(image, cell, every, out, skip=0):
    """The median of every `every`-th pixel of each `every`-th row of a strip of cells.

    image : float32 (h, nx), the rows of one row of cells; out : float32 (gx,)
    cell, skip : as in `cell_modes`
    """
    h, nx = image.shape
    buffer = np.empty((h // every + 1) * (cell // every + 1), np.float32)
    for i in range(out.size):
        left, right = max(0, i * cell - skip), min(nx, (i + 1) * cell - skip)
        n = 0
        for y in range(h // 2 % every, h, every):
            for x in range(left + (right - left) // 2 % every, right, every):
                buffer[n] = image[y, x]
                n += 1
        out[i] = np.median(buffer[:n])
