"""Make ``gplconvex/_embedded/heart_disease.csv`` from the published table of 920 patients.

    python docs/make_heart_disease.py heart_disease_uci.csv heart_disease.csv

The input is the four "processed" files of the UCI Machine Learning Repository (Heart Disease,
doi 10.24432/C52P4X, CC BY 4.0) in one table with words for codes: a header with at least the
columns of `COLUMNS`, a missing value as an empty cell. The output keeps the patients and their
order. It differs from the input in four ways, and in no other:

1. an attribute stays only if each hospital has measured it on at least half of its patients;
2. a resting blood pressure of 0 becomes missing, as does a serum cholesterol of 0 (before step 1);
3. columns and values get the names of `COLUMNS` and `WORDS`;
4. a number that is whole is written without ".0".

Missing values are left empty: the loader, not the file, says what stands in for them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

# How many patients each hospital published, and what the package calls it.
HOSPITALS = {
    "Cleveland": ("Cleveland", 303),
    "Hungary": ("Hungary", 294),
    "Switzerland": ("Switzerland", 123),
    "VA Long Beach": ("Long Beach", 200),
}

# Input column -> output column. "thalch" is a slip for the repository's "thalach".
COLUMNS = {
    "hospital": "hospital",
    "age": "age",
    "sex": "sex",
    "cp": "chest_pain",
    "trestbps": "resting_blood_pressure",
    "chol": "cholesterol",
    "fbs": "high_fasting_blood_sugar",
    "restecg": "resting_ecg",
    "thalch": "max_heart_rate",
    "exang": "exercise_angina",
    "oldpeak": "st_depression",
    "slope": "st_slope",
    "ca": "colored_vessels",
    "thal": "thallium_scan",
    "num": "num",
}

WORDS = {
    "Male": "male",
    "Female": "female",
    "True": "yes",
    "False": "no",
    "non-anginal": "non-anginal pain",
    "lv hypertrophy": "left ventricular hypertrophy",
    "st-t abnormality": "ST-T abnormality",
    "reversable defect": "reversible defect",
    **{published: name for published, (name, _) in HOSPITALS.items()},
}

ZERO_MEANS_MISSING = ("resting_blood_pressure", "cholesterol")


def clean(rows: list[dict[str, str]]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns that stay and the cleaned rows."""
    for published, (_, expected) in HOSPITALS.items():
        got = sum(row["hospital"] == published for row in rows)
        if got != expected:
            raise SystemExit(
                f"error: expected {expected} patients of {published}, got {got}. A common copy "
                "labels the patient aged 28 as of Cleveland: put this row back to Hungary"
            )
    if len(rows) != sum(expected for _, expected in HOSPITALS.values()):
        raise SystemExit(f"error: a hospital other than {list(HOSPITALS)} in the input")
    cleaned = [{new: _value(new, row[old]) for old, new in COLUMNS.items()} for row in rows]
    kept = [column for column in COLUMNS.values() if _measured_everywhere(column, cleaned)]
    return kept, cleaned


def _value(column: str, text: str) -> str:
    text = WORDS.get(text, text).removesuffix(".0")
    return "" if text == "0" and column in ZERO_MEANS_MISSING else text


def _measured_everywhere(column: str, rows: list[dict[str, str]]) -> bool:
    return all(
        2 * sum(row["hospital"] == name and row[column] != "" for row in rows) >= n_patients
        for name, n_patients in HOSPITALS.values()
    )


def main(arguments: list[str]) -> None:
    """Read the table named first and write the one named second, which must not exist."""
    if len(arguments) != 2:
        raise SystemExit("usage: python docs/make_heart_disease.py INPUT.csv OUTPUT.csv")
    source, target = map(Path, arguments)
    with source.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        absent = set(COLUMNS) - set(reader.fieldnames or ())
        if absent:
            raise SystemExit(f"error: {source} lacks the columns {sorted(absent)}")
        kept, rows = clean(list(reader))
    try:
        with target.open("x", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, kept, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except FileExistsError:
        raise SystemExit(f"error: {target} exists and is not overwritten") from None
    print(f"{len(rows)} patients, {len(kept)} columns: {', '.join(kept)}")


if __name__ == "__main__":
    main(sys.argv[1:])
