"""Diagnoses of heart disease: 920 patients of four hospitals, who come with the package."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from gplconvex._types import FloatArray
from gplconvex.data import Dataset
from gplconvex.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class HeartDisease:
    """Patients of four hospitals, standardized, with the way back to natural units.

    Attributes
    ----------
    hospitals : tuple of str
        Names, in the order of ``datasets``.
    features : tuple of str, length d
        Names, in the order of the columns of ``x``.
    datasets : tuple of Dataset
        One a hospital.
    center, scale : array, shape (d,)
        Mean and standard deviation (of the whole: divided by m, not m - 1) of each feature over all
        patients of all hospitals: ``x_raw = center + scale * x``. Read-only.
    units : tuple of str, length d
        Unit of each feature in ``x_raw``; empty for an indicator, which is 0 or 1.
    label : str
        What ``y`` says.
    label_center, label_scale : float
        ``y_raw = label_center + label_scale * y``; 0 and 1 where y is a class.
    """

    hospitals: tuple[str, ...]
    features: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    center: FloatArray
    scale: FloatArray
    units: tuple[str, ...]
    label: str
    label_center: float = 0.0
    label_scale: float = 1.0

    def to_raw(self, x: npt.ArrayLike) -> FloatArray:
        """Return inputs in natural units, ``center + scale * x``.

        Parameters
        ----------
        x : array_like, shape (..., d)
            Standardized inputs: rows of a dataset of ``datasets``, or made up.

        Raises
        ------
        InvalidInputError
            If the last axis does not have length d.
        """
        return self.center + self.scale * self._records("x", x)

    def from_raw(self, x_raw: npt.ArrayLike) -> FloatArray:
        """Return standardized inputs, ``(x_raw - center) / scale``: the inverse of `to_raw`.

        Parameters
        ----------
        x_raw : array_like, shape (..., d)
            Inputs in natural units.

        Raises
        ------
        InvalidInputError
            If the last axis does not have length d.

        Examples
        --------
        Limits of what a record may hold, as bounds on the standardized inputs:

        >>> heart = heart_disease()
        >>> oldest = heart.to_raw(heart.datasets[0].x).max(axis=0)
        >>> float(heart.from_raw(oldest)[0])  # 77 years, in standard deviations above the mean
        2.49
        """
        return (self._records("x_raw", x_raw) - self.center) / self.scale

    def _records(self, name: str, values: npt.ArrayLike) -> FloatArray:
        records = np.asarray(values, dtype=np.float64)
        if records.ndim == 0 or records.shape[-1] != len(self.features):
            raise InvalidInputError(
                f"{name} must have shape (..., {len(self.features)}), one column a feature of "
                f"{list(self.features)}; got {records.shape}"
            )
        return records


def heart_disease() -> HeartDisease:
    r"""Return the diagnosis of heart disease at four hospitals, for logistic regression.

    The patients are those of the four "processed" files of the UCI Machine Learning Repository:
    all 920, in their order. ``y`` is +1 for disease (``num`` of 1 to 4: a coronary artery narrowed
    by more than half) and -1 for none. ``x`` holds d = 11 features:

    ==  ============================  =====================================================
    #   feature                       in natural units
    ==  ============================  =====================================================
    0   age                           years
    1   male                          indicator
    2   typical angina                indicator, as are 3 and 4; asymptomatic: all three 0
    3   atypical angina
    4   non-anginal pain
    5   resting blood pressure        mmHg
    6   ST-T abnormality              indicator, of the resting ECG, as is 7; normal: both 0
    7   left ventricular hypertrophy
    8   maximum heart rate            1/min, in the exercise test
    9   exercise angina               indicator
    10  ST depression                 mm, exercise relative to rest; negative: an elevation
    ==  ============================  =====================================================

    From the published values to ``x``, everything that is done:

    1. *Five attributes are left out*: chol, fbs, slope, ca, thal. Each is missing for more than
       half of the patients of some hospital (Switzerland measured chol on none of them), where
       whatever stood in for it would only spell the name of the hospital.
    2. *A resting blood pressure of 0* (one patient, Long Beach) counts as missing.
    3. *Missing values are filled in by each hospital from its own patients*, so that no user's
       data depend on another's: with the median of a number, with the commonest of words. A cell
       says how many were filled in, and with what:

       ======================  =========  =========  ===========  ==========
       attribute               Cleveland  Hungary    Switzerland  Long Beach
       ======================  =========  =========  ===========  ==========
       resting blood pressure  0          1: 130     2: 125       57: 130
       resting ECG             0          1: normal  1: normal    0
       maximum heart rate      0          1: 140     1: 121       53: 120
       exercise angina         0          1: no      1: no        53: yes
       ST depression           0          0          6: 0.3       56: 1.5
       patients, of which      303        294        123          200
       with a value filled in  0          2          7            60
       with disease            139        106        115          149
       ======================  =========  =========  ===========  ==========

    4. *Words become indicators*: the features 1-4, 6, 7 and 9 of the first table.
    5. *Every feature is standardized*, indicators too, by its mean and standard deviation over all
       920 patients. (A federation can compute both from one sum and one sum of squares a
       hospital.)

    Nothing else is changed. Negative ST depressions (11 in Switzerland, 1 in Long Beach) are
    elevations and stay; two pairs of equal rows (Hungary, Long Beach) stay, since nothing tells a
    patient entered twice from two alike. ``docs/data.md`` in the repository says more.

    Returns
    -------
    HeartDisease
        Built anew by each call.

    References
    ----------
    A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano, *Heart Disease*, UCI Machine Learning
    Repository, 1988, https://doi.org/10.24432/C52P4X. License: CC BY 4.0.

    Examples
    --------
    >>> heart = heart_disease()
    >>> [(name, data.n_points) for name, data in zip(heart.hospitals, heart.datasets)]
    [('Cleveland', 303), ('Hungary', 294), ('Switzerland', 123), ('Long Beach', 200)]

    The first patient of Cleveland, 63 years old and healthy:

    >>> cleveland = heart.datasets[0]
    >>> for name, value, unit in zip(heart.features, heart.to_raw(cleveland.x[0]), heart.units):
    ...     print(f"{name}: {value:.4g} {unit}".strip())
    age: 63 years
    male: 1
    typical angina: 1
    atypical angina: 0
    non-anginal pain: 0
    resting blood pressure: 145 mmHg
    ST-T abnormality: 0
    left ventricular hypertrophy: 1
    maximum heart rate: 150 1/min
    exercise angina: 0
    ST depression: 2.3 mm
    >>> float(cleveland.y[0])
    -1.0
    """
    hospitals = _read()
    center, scale, inputs = _standardized(
        [_encoded(_filled_in(patients), _FEATURES) for patients in hospitals.values()]
    )
    labels = [
        np.array([1.0 if int(patient["num"]) >= 1 else -1.0 for patient in patients])
        for patients in hospitals.values()
    ]
    return HeartDisease(
        hospitals=tuple(hospitals),
        features=tuple(feature.name for feature in _FEATURES),
        datasets=tuple(map(Dataset, inputs, labels)),
        center=center,
        scale=scale,
        units=tuple(feature.unit for feature in _FEATURES),
        label="heart disease: +1 yes, -1 no",
    )


def heart_disease_regression() -> HeartDisease:
    r"""Return the maximum heart rate of the same patients, for least squares.

    ``y`` is the highest heart rate reached in the exercise test, standardized:
    ``label_center + label_scale * y`` beats per minute. ``x`` holds the other d = 10 features of
    `heart_disease`; the diagnosis, which came later, is not among them.

    A label is never made up: the 55 patients without a measured heart rate (Hungary 1,
    Switzerland 1, Long Beach 53) are left out, which leaves 865. All else is done as there: the
    values filled in are those of `heart_disease`, the standardization is over the 865.

    Returns
    -------
    HeartDisease
        Built anew by each call.

    Examples
    --------
    >>> heart = heart_disease_regression()
    >>> [data.n_points for data in heart.datasets]
    [303, 293, 122, 147]
    >>> y = heart.datasets[0].y[0]
    >>> round(heart.label_center + heart.label_scale * y)  # beats per minute
    150

    Least squares over all patients at once finds what every cardiologist knows: the maximum heart
    rate falls with age, by somewhat less than one beat per minute a year.

    >>> x, y = (np.concatenate([getattr(data, name) for data in heart.datasets]) for name in "xy")
    >>> theta = np.linalg.lstsq(x, y)[0]
    >>> age = heart.features.index("age")
    >>> print(f"{theta[age] * heart.label_scale / heart.scale[age]:.2f}")
    -0.88
    """
    target = "max_heart_rate"
    features = [feature for feature in _FEATURES if feature.column != target]
    hospitals = _read()
    measured = [
        np.array([patient[target] != "" for patient in patients]) for patients in hospitals.values()
    ]
    center, scale, inputs = _standardized(
        [
            _encoded(_filled_in(patients), features)[keep]
            for patients, keep in zip(hospitals.values(), measured, strict=True)
        ]
    )
    (label_center,), (label_scale,), labels = _standardized(
        [
            np.array([[float(patient[target])] for patient in patients if patient[target] != ""])
            for patients in hospitals.values()
        ]
    )
    return HeartDisease(
        hospitals=tuple(hospitals),
        features=tuple(feature.name for feature in features),
        datasets=tuple(Dataset(x, y[:, 0]) for x, y in zip(inputs, labels, strict=True)),
        center=center,
        scale=scale,
        units=tuple(feature.unit for feature in features),
        label="maximum heart rate (1/min)",
        label_center=float(label_center),
        label_scale=float(label_scale),
    )


@dataclass(frozen=True)
class _Feature:
    """A number in a column of the file, or the indicator of one word there."""

    name: str
    column: str
    unit: str = ""
    word: str | None = None


_FEATURES = (
    _Feature("age", "age", "years"),
    _Feature("male", "sex", word="male"),
    _Feature("typical angina", "chest_pain", word="typical angina"),
    _Feature("atypical angina", "chest_pain", word="atypical angina"),
    _Feature("non-anginal pain", "chest_pain", word="non-anginal pain"),
    _Feature("resting blood pressure", "resting_blood_pressure", "mmHg"),
    _Feature("ST-T abnormality", "resting_ecg", word="ST-T abnormality"),
    _Feature("left ventricular hypertrophy", "resting_ecg", word="left ventricular hypertrophy"),
    _Feature("maximum heart rate", "max_heart_rate", "1/min"),
    _Feature("exercise angina", "exercise_angina", word="yes"),
    _Feature("ST depression", "st_depression", "mm"),
)

# A patient: a cell of the file for each column, "" where the value is missing.
_Patient = dict[str, str]


def _read() -> dict[str, list[_Patient]]:
    """Return the patients of each hospital, as in the file."""
    file = resources.files("gplconvex") / "_embedded" / "heart_disease.csv"
    hospitals: dict[str, list[_Patient]] = {}
    for patient in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        hospitals.setdefault(patient["hospital"], []).append(patient)
    return hospitals


def _filled_in(patients: list[_Patient]) -> list[_Patient]:
    """Replace each missing value by the median, or the commonest word, of these patients."""
    numbers = {feature.column for feature in _FEATURES if feature.word is None}
    stand_in = {}
    for column in patients[0]:
        known = [patient[column] for patient in patients if patient[column] != ""]
        stand_in[column] = (
            repr(statistics.median(map(float, known)))
            if column in numbers
            else statistics.mode(known)
        )
    return [{column: p[column] or stand_in[column] for column in p} for p in patients]


def _encoded(patients: list[_Patient], features: Sequence[_Feature]) -> FloatArray:
    """Return the features in natural units, one row a patient."""
    return np.array(
        [
            [
                float(patient[f.column] if f.word is None else patient[f.column] == f.word)
                for f in features
            ]
            for patient in patients
        ]
    )


def _standardized(arrays: list[FloatArray]) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
    """Return the pooled mean and standard deviation of each column, and the arrays without them."""
    pooled = np.concatenate(arrays)
    center = pooled.mean(axis=0)
    scale = pooled.std(axis=0)
    center.setflags(write=False)
    scale.setflags(write=False)
    return center, scale, [(array - center) / scale for array in arrays]
