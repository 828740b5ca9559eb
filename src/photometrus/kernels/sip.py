"""Distortion polynomials (SIP, Shupe et al. 2005): added, and taken away again."""

from photometrus.compiled import njit

FAR_PIX = 8192.0
"""So far from the reference pixel a chip's polynomial means nothing."""
ROUNDS = 12
CLOSE_PIX = 1e-10


@njit(nogil=True, cache=True)
def _value(matrix, u, v):
    """Sum of matrix[i, j] u**i v**j."""
    total = 0.0
    for i in range(matrix.shape[0] - 1, -1, -1):
        line = 0.0
        for j in range(matrix.shape[1] - 1, -1, -1):
            line = line * v + matrix[i, j]
        total = total * u + line
    return total


@njit(nogil=True, cache=True)
def add_sip(a, b, u, v, big_u, big_v):
    """Distorted pixel offsets (big_u, big_v), float64 (n,), of (u, v): big_u = u + A(u, v).

    a, b : float64 (order + 1, order + 1), coefficients of u**i v**j
    """
    for k in range(u.size):
        big_u[k] = u[k] + _value(a, u[k], v[k])
        big_v[k] = v[k] + _value(b, u[k], v[k])


@njit(nogil=True, cache=True)
def undo_sip(a, b, big_u, big_v, u, v):
    """The pixel offsets (u, v), float64 (n,), that the distortion brings to (big_u, big_v).

    a, b : as in `add_sip`
    By fixed-point iteration, u = U - A(u, v): of PRIME's 20 pixels over 2000 each round leaves a
    hundredth. Points far outside the chip stay where they are, and so does NaN.
    """
    for k in range(big_u.size):
        x0, y0 = big_u[k], big_v[k]
        x, y = x0, y0
        if abs(x0) < FAR_PIX and abs(y0) < FAR_PIX:
            for _ in range(ROUNDS):
                new_x = min(max(x0 - _value(a, x, y), -1e4), 1e4)
                new_y = min(max(y0 - _value(b, x, y), -1e4), 1e4)
                step = abs(new_x - x) + abs(new_y - y)
                x, y = new_x, new_y
                if step < CLOSE_PIX:
                    break
        u[k] = x
        v[k] = y
