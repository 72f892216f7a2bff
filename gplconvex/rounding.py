r"""The arithmetic of rounding errors and the table of tolerances.

Certificates add an allowance for rounding to everything they compute, by the standard model

.. math:: \mathrm{fl}(a \circ b) = (a \circ b)(1 + \epsilon), \qquad |\epsilon| \le u = 2^{-53},

and its consequence for sums of n products in any order (N. J. Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd ed., section 3.1): the error is at most
:math:`\gamma_n \sum_i |x_i| |y_i|` with :math:`\gamma_n = n u / (1 - n u)`.

Tolerances of the package, each used once by the name it has here:

===================== ======= ==================================================================
name                  value   why
===================== ======= ==================================================================
`REALIZATION_RESIDUAL` 1e-12  relative residual that a realized gradient must reach: rounding the
                              inputs of a point to float64 costs about 1e-16 times the condition
                              number of its predictor, so 1e-12 leaves four digits for the latter
`POLISHED`            1e-14   relative residual at which points need no polishing: a hundredth of the
                              former, and about as good as 64-bit inputs can be
`SIMPLEX`             1e-12   how far the sum of a label distribution may be from 1: probabilities
                              computed in float64 for thousands of classes keep to it
`VERIFY_RELATIVE`     1e-6    agreement of a certificate with its recomputation: summation orders
                              of different machines move the allowances by far less, and a bound
                              that is wrong by one part in a million misleads nobody
`UNSOLVED`            1e-6    error of the honest replies, relative to their reports, beyond which
                              a pull that vanishes within it is not taken for none: solvers that do
                              not fail end three digits or more below it
===================== ======= ==================================================================

Solvers have no tolerance of their own: they stop when rounding stops them, and the certificate at the
returned point is compared with the ``tol`` that the caller gave.
"""

from __future__ import annotations

from typing import Final

UNIT: Final = 2.0**-53
"""Unit roundoff u of float64."""

LARGEST: Final = 1e140
"""The largest entry of a model or parameter; sums of squares of a trillion such are still finite."""

REALIZATION_RESIDUAL: Final = 1e-12
POLISHED: Final = 1e-14
SIMPLEX: Final = 1e-12
VERIFY_RELATIVE: Final = 1e-6
UNSOLVED: Final = 1e-6


def gamma(n: int) -> float:
    r"""Return :math:`\gamma_n = n u / (1 - n u)`.

    Examples
    --------
    >>> gamma(2) == 2 * UNIT / (1 - 2 * UNIT)
    True
    """
    return n * UNIT / (1.0 - n * UNIT)
