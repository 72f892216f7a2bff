"""The examples in the README and in pages of docs run, and print what their comments say."""

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_readme_example_prints_what_it_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 15
    said = [
        re.match(r"True|[\d ]+", comment).group().strip()  # type: ignore[union-attr]
        for comment in re.findall(r"print\(.*\) +# (.*)", code)
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().splitlines() == said


def test_readme_names_the_two_commands() -> None:
    assert "make demo" in README
    assert "make test" in README


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bounded.md", "federated.md"])
def test_page_prints_what_it_says(name: str) -> None:
    """Every line that the blocks print stands in the page's comments, wherever those wrap.

    Numbers with decimals aside: their last digits are the machine's. Blocks marked ``py`` need what
    is not installed, and are not run.
    """
    page = (Path(__file__).parent.parent / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", page, flags=re.DOTALL | re.MULTILINE)
    code = "\n".join(textwrap.dedent(block) for _, block in blocks)
    said = without_decimals(" ".join(re.findall(r"# (.*)", code)))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, name, "exec"), {})
    lines = [line for line in printed.getvalue().splitlines() if line.strip()]
    assert len(lines) > 10
    for line in lines:
        assert without_decimals(line) in said, line


def without_decimals(text: str) -> str:
    return re.sub(r"\d+\.\d*", "#", " ".join(text.split()))
