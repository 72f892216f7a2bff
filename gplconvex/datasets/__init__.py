"""Real data: patients and digits that come with the package; images and problems from files."""

from gplconvex.datasets.heart import HeartDisease, heart_disease, heart_disease_regression
from gplconvex.datasets.images import Images, digits, fashion_mnist, mnist
from gplconvex.datasets.model_targeted import ModelTargeted, model_targeted

__all__ = [
    "HeartDisease",
    "Images",
    "ModelTargeted",
    "digits",
    "fashion_mnist",
    "heart_disease",
    "heart_disease_regression",
    "mnist",
    "model_targeted",
]
