"""The embedded data against the published table and the documented counts."""

import dataclasses
import hashlib
from importlib import resources

import numpy as np
import pytest

from gplconvex.datasets.heart import (
    _filled_in,
    _read,
    heart_disease,
    heart_disease_regression,
)
from gplconvex.errors import InvalidInputError

HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "Long Beach")
BOTH = pytest.mark.parametrize("load", [heart_disease, heart_disease_regression])


def pooled(heart):
    return np.concatenate([data.x for data in heart.datasets])


def test_the_file_is_the_one_that_was_documented():
    file = resources.files("gplconvex") / "_embedded" / "heart_disease.csv"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == (
        "a893aa789bdbd8a2b27946c5fe0870e5d3a4a7002459a046c9619589cb22574c"
    )


def test_every_patient_is_there_with_the_published_diagnosis():
    heart = heart_disease()
    assert heart.hospitals == HOSPITALS
    assert [data.n_points for data in heart.datasets] == [303, 294, 123, 200]
    assert [int((data.y == 1).sum()) for data in heart.datasets] == [139, 106, 115, 149]
    assert [int((data.y == -1).sum()) for data in heart.datasets] == [164, 188, 8, 51]


def test_regression_leaves_out_the_patients_without_a_measured_label():
    heart = heart_disease_regression()
    assert heart.hospitals == HOSPITALS
    assert [data.n_points for data in heart.datasets] == [303, 293, 122, 147]


def test_features_are_those_of_the_documentation():
    heart, regression = heart_disease(), heart_disease_regression()
    assert len(heart.features) == len(heart.units) == len(set(heart.features)) == 11
    for number, name in enumerate(heart.features):
        assert f"{number:<3} {name}" in (heart_disease.__doc__ or "")
    assert regression.features == tuple(f for f in heart.features if f != "maximum heart rate")
    assert len(regression.units) == 10


@BOTH
def test_standardization(load):
    heart = load()
    x = pooled(heart)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose((x**2).mean(axis=0), 1, rtol=1e-13)
    assert (heart.scale > 0).all()
    # No feature is a combination of the others: the pooled regression has one answer.
    assert np.linalg.svd(x, compute_uv=False)[-1] > 0.1 * np.sqrt(len(x))


def test_standardization_of_the_regression_labels():
    heart = heart_disease_regression()
    y = np.concatenate([data.y for data in heart.datasets])
    np.testing.assert_allclose([y.mean(), (y**2).mean()], [0, 1], atol=1e-13)
    # 118977 beats per minute in sum over the 865 patients of the published table.
    assert heart.label_center == pytest.approx(118977 / 865, rel=1e-14)


@BOTH
def test_raw_and_back(load):
    heart = load()
    x = pooled(heart)
    raw = heart.to_raw(x)
    np.testing.assert_allclose(heart.from_raw(raw), x, atol=1e-12)
    np.testing.assert_allclose(heart.to_raw(x[3]), raw[3], rtol=0, atol=0)
    indicators = raw[:, [unit == "" for unit in heart.units]]
    np.testing.assert_allclose(indicators, np.round(indicators), atol=1e-13)
    assert set(np.round(indicators).ravel()) == {0, 1}
    np.testing.assert_allclose(heart.to_raw(np.zeros(x.shape[1])), heart.center, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["to_raw", "from_raw"])
@pytest.mark.parametrize("wrong", [1.0, np.zeros(10), np.zeros((11, 2)), []])
def test_a_record_of_another_length_is_refused(method, wrong):
    with pytest.raises(InvalidInputError, match=r"shape \(\.\.\., 11\)"):
        getattr(heart_disease(), method)(wrong)


# In the order of the features: age, male, typical, atypical, non-anginal, pressure, ST-T, LVH,
# heart rate, exercise angina, ST depression; then the diagnosis. Filled in: marked *.
PUBLISHED = {
    # 63,Male,typical angina,145,lv hypertrophy,150,False,2.3, num 0
    ("Cleveland", 0): ([63, 1, 1, 0, 0, 145, 0, 1, 150, 0, 2.3], -1),
    # 67,Male,asymptomatic,160,lv hypertrophy,108,True,1.5, num 2
    ("Cleveland", 1): ([67, 1, 0, 0, 0, 160, 0, 1, 108, 1, 1.5], 1),
    # 38,Male,non-anginal,138,normal,173,False,0.0, num 0
    ("Cleveland", 302): ([38, 1, 0, 0, 1, 138, 0, 0, 173, 0, 0.0], -1),
    # 28,Male,atypical angina,130,lv hypertrophy,185,False,0.0, num 0
    ("Hungary", 0): ([28, 1, 0, 1, 0, 130, 0, 1, 185, 0, 0.0], -1),
    # 48,Female,atypical angina,*,st-t abnormality,*,*,2.0, num 0
    ("Hungary", 90): ([48, 0, 0, 1, 0, 130, 1, 0, 140, 0, 2.0], -1),
    # 55,Male,typical angina,140,*,136,False,0.0, num 1
    ("Hungary", 268): ([55, 1, 1, 0, 0, 140, 0, 0, 136, 0, 0.0], 1),
    # 34,Male,asymptomatic,115,*,154,False,0.2, num 1
    ("Switzerland", 1): ([34, 1, 0, 0, 0, 115, 0, 0, 154, 0, 0.2], 1),
    # 35,Male,asymptomatic,*,normal,130,True,*, num 3
    ("Switzerland", 2): ([35, 1, 0, 0, 0, 125, 0, 0, 130, 1, 0.3], 1),
    # 69,Male,asymptomatic,*,st-t abnormality,*,*,*, num 3
    ("Switzerland", 117): ([69, 1, 0, 0, 0, 125, 1, 0, 121, 0, 0.3], 1),
    # 63,Male,asymptomatic,140,st-t abnormality,112,True,3.0, num 2
    ("Long Beach", 0): ([63, 1, 0, 0, 0, 140, 1, 0, 112, 1, 3.0], 1),
    # 58,Male,asymptomatic,*,lv hypertrophy,*,*,*, num 0
    ("Long Beach", 198): ([58, 1, 0, 0, 0, 130, 0, 1, 120, 1, 1.5], -1),
}


@pytest.mark.parametrize(("hospital", "row"), PUBLISHED)
def test_rows_of_the_published_table(hospital, row):
    heart = heart_disease()
    record, diagnosis = PUBLISHED[hospital, row]
    data = heart.datasets[HOSPITALS.index(hospital)]
    np.testing.assert_allclose(heart.to_raw(data.x[row]), record, atol=1e-12)
    assert data.y[row] == diagnosis


def test_the_regression_holds_the_same_patients():
    heart, regression = heart_disease(), heart_disease_regression()
    rate = heart.features.index("maximum heart rate")
    for both, alone, patients in zip(
        heart.datasets, regression.datasets, _read().values(), strict=True
    ):
        measured = [patient["max_heart_rate"] != "" for patient in patients]
        raw = heart.to_raw(both.x)[measured]
        np.testing.assert_allclose(
            regression.to_raw(alone.x), np.delete(raw, rate, axis=1), atol=1e-12
        )
        y_raw = regression.label_center + regression.label_scale * alone.y
        np.testing.assert_allclose(y_raw, raw[:, rate], atol=1e-12)


@pytest.mark.parametrize(
    ("column", "missing", "stand_in"),
    [
        ("resting_blood_pressure", (0, 1, 2, 57), (None, 130, 125, 130)),
        ("resting_ecg", (0, 1, 1, 0), (None, "normal", "normal", None)),
        ("max_heart_rate", (0, 1, 1, 53), (None, 140, 121, 120)),
        ("exercise_angina", (0, 1, 1, 53), (None, "no", "no", "yes")),
        ("st_depression", (0, 0, 6, 56), (None, None, 0.3, 1.5)),
        ("age", (0, 0, 0, 0), (None,) * 4),
        ("sex", (0, 0, 0, 0), (None,) * 4),
        ("chest_pain", (0, 0, 0, 0), (None,) * 4),
        ("num", (0, 0, 0, 0), (None,) * 4),
    ],
)
def test_what_was_filled_in_is_what_the_documentation_says(column, missing, stand_in):
    for patients, n_missing, value in zip(_read().values(), missing, stand_in, strict=True):
        filled = [
            after[column]
            for before, after in zip(patients, _filled_in(patients), strict=True)
            if before[column] == ""
        ]
        assert len(filled) == n_missing
        if value is not None:
            values = set(filled) if isinstance(value, str) else set(map(float, filled))
            assert values == {value}


def test_known_values_are_never_changed():
    for patients in _read().values():
        for before, after in zip(patients, _filled_in(patients), strict=True):
            assert before.keys() == after.keys()
            assert all(after[c] == before[c] for c in before if before[c] != "")
            assert "" not in after.values()


def test_patients_touched_by_filling_in():
    touched = [sum("" in p.values() for p in patients) for patients in _read().values()]
    assert touched == [0, 2, 7, 60]


def test_peculiarities_that_stay():
    heart = heart_disease()
    st = heart.features.index("ST depression")
    raw = [heart.to_raw(data.x) for data in heart.datasets]
    assert [int((x[:, st] < -1e-9).sum()) for x in raw] == [0, 0, 11, 1]
    equal_rows = [
        len(patients) - len({tuple(p.values()) for p in patients}) for patients in _read().values()
    ]
    assert equal_rows == [0, 1, 0, 1]


@BOTH
def test_nothing_can_be_changed(load):
    heart = load()
    with pytest.raises(dataclasses.FrozenInstanceError):
        heart.center = np.zeros(11)
    for array in (heart.center, heart.scale, heart.datasets[0].x):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
