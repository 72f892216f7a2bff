"""The page of findings tells of every experiment, and shows its picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gplconvex.experiments.catalog import EXPERIMENTS

PAGE = Path(__file__).parents[1] / "docs" / "found.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_picture_on_the_page(name):
    (path,) = re.findall(rf"!\[{name}\]\((.*?)\)", TEXT)
    assert (PAGE.parent / path).read_bytes().startswith(b"\x89PNG")


def test_links_within_the_page_lead_to_its_sections():
    sections = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.*)$", TEXT, flags=re.M)
    }
    links = set(re.findall(r"\]\(#(.*?)\)", TEXT))
    assert links == sections
