"""Answers of a served model, for people: items with titles, and skew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table

from kdsr_tf.config import Config
from kdsr_tf.console import console, cut, output, table
from kdsr_tf.runs.closing_question import ask_exported_model, read_titles

if TYPE_CHECKING:
    from kdsr_tf.export.skew import Skew
    from kdsr_tf.runs.ask_server import Answer

_LONGEST_SHOWN = 8
_LONGEST_TITLE = 100


def show_closing_question(config: Config) -> None:
    """Ask the exported model for one user's recommendations and print them.

    The last act of a run that is complete: what goes wrong here is said, and fails nothing.
    """
    try:
        asked = ask_exported_model(config)
    except KeyboardInterrupt:
        console.print("The closing question to the model was skipped.")
        return
    except Exception as error:
        console.print(
            "The run is complete, but the exported model was not asked at its end: "
            f"{error or type(error).__name__}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
        return
    titles, user = read_titles(config), asked.user_id
    shown = asked.history[-_LONGEST_SHOWN:]
    dropped = len(asked.history) - len(shown)
    earlier = f" (after {dropped} earlier ones)" if dropped else ""
    following = asked.following[:_LONGEST_SHOWN]
    console.print(items_table(f"What user {user} took{earlier}", shown, titles))
    console.print(items_table(f"What user {user} took next", following, titles))
    console.print(recommendations_table(f"Recommended to user {user}", asked.answer, titles))


def show_answer(config: Config, answer: Answer, heading: str, as_json: bool) -> None:
    """Print what a server has answered, with titles where the working directory has them."""
    titles = read_titles(config)
    if answer.unknown:
        listed = ", ".join(answer.unknown)
        console.print(f"Unknown to the model, so ignored: {listed}", markup=False)
    if as_json:
        rows = [{"item_id": i, "title": titles.get(i), "score": s} for i, s in answer.items]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    title = f"{heading} by {answer.target}"
    output.print(recommendations_table(title, answer.items, titles))


def show_skew(found: Sequence[Skew], as_json: bool, title: str) -> None:
    """Print the differences between a served model and the student, per signature."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in found]))
        return
    columns = ("signature", "answers", "equal", "recall", "max difference", "mean difference")
    rows = (
        (s.signature, s.rows, s.equal / s.rows, s.recall, s.max_difference, s.mean_difference)
        for s in found
    )
    output.print(table(title, columns, rows))


def items_table(title: str, item_ids: Sequence[str], titles: Mapping[str, str]) -> Table:
    """Items with their titles."""
    return table(title, ("item", "title"), [(i, _title(i, titles)) for i in item_ids])


def recommendations_table(
    title: str, recommendations: Iterable[tuple[str, float]], titles: Mapping[str, str]
) -> Table:
    """Pairs of item id and score, best first, with ranks and titles (by item id)."""
    rows = [
        (rank, item, _title(item, titles), f"{score:.3f}")
        for rank, (item, score) in enumerate(recommendations, start=1)
    ]
    return table(title, ("rank", "item", "title", "score"), rows)


def _title(item_id: str, titles: Mapping[str, str]) -> str:
    return cut(titles.get(item_id, ""), _LONGEST_TITLE)
