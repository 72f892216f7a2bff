r"""What other tools do on the problem of this package, each set up as well as it can be.

=========================  ==========================================================================
`published_protocol`       the training of the published experiments, in PyTorch: Adam, float32
`pooled_scikit_learn`      hard consensus as one regression on the pooled data, by scikit-learn
`joint_lbfgs`              scipy's L-BFGS on all models together
`cvxpy_solver`             one solver behind cvxpy; `best_cvxpy_solver` tries several
`gradient_inversion`       Adam on points whose gradients should sum to a given one, in PyTorch
`gradient_canceling`       the same for logistic points in a box, in numpy and scipy
=========================  ==========================================================================

Each but the last two returns an `Outcome`: float64 models in the shapes of `gplconvex.Problem`, so that
`gplconvex.certify` judges all of them alike, and the seconds that the tool itself took; its docstring
says what is counted.

The objective is, with sums over points and not means,

.. math:: F(\rho, \theta) = \sum_n \Big[\nu_n |\theta_n|^2 + \sum_i c_i\,\varphi(\theta_n^\top x_i, y_i)
          + r(\rho - \theta_n)\Big].
"""

from peers.canceling import Canceling, gradient_canceling
from peers.conic import best_cvxpy_solver, cvxpy_solver
from peers.inversion import Inversion, gradient_inversion
from peers.joint import joint_lbfgs
from peers.outcome import Outcome
from peers.published import published_protocol, torch_devices
from peers.scikit_learn import pooled_scikit_learn

__all__ = [
    "Canceling",
    "Inversion",
    "Outcome",
    "best_cvxpy_solver",
    "cvxpy_solver",
    "gradient_canceling",
    "gradient_inversion",
    "joint_lbfgs",
    "pooled_scikit_learn",
    "published_protocol",
    "torch_devices",
]
