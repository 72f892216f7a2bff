"""The example in the README runs, and prints what its comments say."""

import contextlib
import io
import re
from pathlib import Path

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
