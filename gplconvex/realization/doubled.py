r"""Sums of products in twice the working precision.

A double-double number is an unevaluated sum of two float64 numbers, ``high + low`` with
:math:`|low| \le u\,|high|`: 106 bits. Sum and product of two float64 numbers are such pairs exactly,

.. math:: a + b = s + e \ (\text{Knuth}), \qquad a b = p + e \ (\text{Dekker, Veltkamp}),

so sums of products lose nothing but what the additions of the low parts round, 2^-104 of the sum of
absolute values (T. Ogita, S. M. Rump and S. Oishi, *Accurate sum and dot product*, 2005).
"""

from __future__ import annotations

import numpy as np

from gplconvex._types import FloatArray

SPLITTER = 2.0**27 + 1.0
"""Veltkamp's constant, which cuts 53 bits into two halves."""

Pair = tuple[FloatArray, FloatArray]


def two_sum(a: FloatArray, b: FloatArray) -> Pair:
    """Return a + b exactly, as the rounded sum and its error."""
    s = a + b
    shadow = s - a
    return s, (a - (s - shadow)) + (b - shadow)


def two_product(a: FloatArray, b: FloatArray) -> Pair:
    """Return a b exactly, as the rounded product and its error; for sizes up to 1e300."""
    p = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: FloatArray) -> Pair:
    shifted = SPLITTER * a
    high = shifted - (shifted - a)
    return high, a - high


def total(terms: Pair) -> Pair:
    """Return the sum along the first axis of double-double numbers, pair by pair."""
    high, low = terms
    while len(high) > 1:
        half, odd = divmod(len(high), 2)
        s, e = two_sum(high[:half], high[half : 2 * half])
        e = e + (low[:half] + low[half : 2 * half])
        if odd:
            s, e = np.concatenate([s, high[-1:]]), np.concatenate([e, low[-1:]])
        high, low = s, e
    s = high[0] + low[0]
    return s, low[0] - (s - high[0])


def product_sum(a: FloatArray, weights: Pair) -> Pair:
    r"""Return :math:`\sum_i a_i w_i` along the first axis, the weights being double-double."""
    high, low = weights
    p, e = two_product(a, high)
    return total((p, e + a * low))
