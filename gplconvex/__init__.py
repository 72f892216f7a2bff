"""gplconvex: exact, certified data poisoning and Byzantine attacks in convex federated learning."""

from gplconvex.certificates import Certificate, Check, certify, verify
from gplconvex.data import Dataset
from gplconvex.datasets import HeartDisease, heart_disease, heart_disease_regression
from gplconvex.domains import Box, Domain, Unbounded
from gplconvex.envelope import Envelope, moreau_envelope
from gplconvex.equivalence import (
    Poisoning,
    poison,
    reproduce_gradient,
    required_gradient,
    to_data,
    to_gradient,
    to_model,
)
from gplconvex.errors import (
    CertificateError,
    GplConvexError,
    InvalidInputError,
    MissingDependencyError,
    NotSolvedError,
    UnreachableTargetError,
    UnrealizableGradientError,
    UnsupportedCombinationError,
)
from gplconvex.honest import honest_dataset, indifference_dataset
from gplconvex.losses import LeastSquares, Logistic, Loss, Poisson, Softmax
from gplconvex.participants import Attacker, GradientAttack, ModelAttack
from gplconvex.problem import Problem
from gplconvex.realization import (
    Gauge,
    LowerBound,
    Realization,
    check_lower_bound,
    gauge,
    realize_gradient,
)
from gplconvex.regularizers import L2, HardConsensus, Regularizer, SmoothL2, SquaredL2
from gplconvex.solvers import Progress, Solution, Status, solve
from gplconvex.solvers.path import solve_path

__version__ = "0.1.0"

__all__ = [
    "L2",
    "Attacker",
    "Box",
    "Certificate",
    "CertificateError",
    "Check",
    "Dataset",
    "Domain",
    "Envelope",
    "Gauge",
    "GplConvexError",
    "GradientAttack",
    "HardConsensus",
    "HeartDisease",
    "InvalidInputError",
    "LeastSquares",
    "Logistic",
    "Loss",
    "LowerBound",
    "MissingDependencyError",
    "ModelAttack",
    "NotSolvedError",
    "Poisoning",
    "Poisson",
    "Problem",
    "Progress",
    "Realization",
    "Regularizer",
    "SmoothL2",
    "Softmax",
    "Solution",
    "SquaredL2",
    "Status",
    "Unbounded",
    "UnreachableTargetError",
    "UnrealizableGradientError",
    "UnsupportedCombinationError",
    "certify",
    "check_lower_bound",
    "gauge",
    "heart_disease",
    "heart_disease_regression",
    "honest_dataset",
    "indifference_dataset",
    "moreau_envelope",
    "poison",
    "realize_gradient",
    "reproduce_gradient",
    "required_gradient",
    "solve",
    "solve_path",
    "to_data",
    "to_gradient",
    "to_model",
    "verify",
]
