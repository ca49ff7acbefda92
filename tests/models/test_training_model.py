"""A recommender and objectives composed by hand, as docs/methods.md has it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "methods.md"


def test_the_program_of_the_page_learns_and_recommends():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(program, str(PAGE), "exec"), {})
