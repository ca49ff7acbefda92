"""A recommender and objectives composed by hand, as docs/methods.md has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "methods.md"


PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_a_program_of_the_page_learns_and_recommends(number):
    assert len(PROGRAMS) == 2
    exec(compile(PROGRAMS[number], str(PAGE), "exec"), {})
