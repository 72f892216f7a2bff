r"""PAC* learning: a user whose points a model labels honestly learns it, whatever the others do.

Points of honest users are those of `gplconvex.honest_dataset`: I of them, labeled by
:math:`\theta_\dagger`. Two properties, of which the first implies the second:

- *gradient-PAC\**, of one user's points: with a probability that tends to 1 as I grows, for **all**
  theta

  .. math:: (\theta - \theta_\dagger)^\top \nabla L(\theta) \ge
            A I \min(|\theta - \theta_\dagger|, |\theta - \theta_\dagger|^2)
            - B I^\alpha |\theta - \theta_\dagger|, \qquad A, B > 0, \quad \alpha < 1.

  `gradient_pac` certifies A and B for given points, `estimate_gradient_pac` the probability.
- *local PAC\**, of a learning algorithm: given what the other participants do, and
  :math:`\varepsilon > 0`, the probability that :math:`|\theta_h^* - \theta_{\dagger h}| \le
  \varepsilon` for all honest users h tends to 1 as their numbers of points grow.
  `estimate_local_pac`.

Source: Farhadkhani et al. 2022; the certified constants are this package's.
"""

from gplconvex.pac.estimates import (
    GradientPacEstimate,
    LocalPacEstimate,
    Proportion,
    Rate,
    estimate_gradient_pac,
    estimate_local_pac,
    fit_rate,
)
from gplconvex.pac.gradient import GradientPac, gradient_pac

__all__ = [
    "GradientPac",
    "GradientPacEstimate",
    "LocalPacEstimate",
    "Proportion",
    "Rate",
    "estimate_gradient_pac",
    "estimate_local_pac",
    "fit_rate",
    "gradient_pac",
]
