from __future__ import annotations

from rich.console import Console

from kdsr_tf.cli.sample import items_table, recommendations_table


def test_a_title_that_is_a_whole_text_does_not_fill_the_screen():
    titles = {"a": "word\n" * 10_000}
    for table in (
        items_table("t", ["a"], titles),
        recommendations_table("t", [("a", 1.0)], titles),
    ):
        console = Console(width=120)
        with console.capture() as capture:
            console.print(table)
        assert len(capture.get().splitlines()) < 10
