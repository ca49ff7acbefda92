"""What `prepare` refuses and what it says, once it has counted what is left."""

from __future__ import annotations

from typing import Any

from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.cores import cores_table, cores_warning
from kdsr_tf.errors import InputError
from kdsr_tf.sources import Source
from kdsr_tf.sources.batches import label
from kdsr_tf.sources.time_units import guess_unit
from kdsr_tf.splits import MIN_TRAIN_FOR_VALIDATION

NO_INTERACTIONS = (
    "{} has no rows. There is nothing to learn from: write one row per interaction, with "
    "user_id, item_id and timestamp."
)


def check(config: Config, source: Source, statistics: dict[str, Any]) -> None:
    """Refuse a run that rejected too much or can learn nothing; say what is left.

    Args:
        config: The configuration.
        source: The user's data.
        statistics: Content of `statistics.json`.

    Raises:
        InputError: if too many rows were rejected, no interaction is left, or no user
            has two train interactions.
    """
    counts = statistics["counts"]
    if not counts["catalogue_rows"]:
        raise InputError(
            f"{source.items} has no rows. The catalogue must name the items: one row each, with "
            "item_id."
        )
    if not counts["interaction_rows"]:
        raise InputError(NO_INTERACTIONS.format(source.interactions))
    _check_rejected(config, source, statistics)
    console.print(cores_table(statistics["cores"], config.prepare.k_core))
    if not counts["interactions"]:
        raise InputError(_nothing_left(config, source, statistics))
    _warn(cores_warning(statistics["cores"], config.prepare.k_core))
    if not counts["train_points"]:
        raise InputError(_nothing_to_learn(config, source, statistics))
    _warn(_mixed_units(source, statistics["times"]))
    _warn(_nothing_to_judge(config, counts))


def _check_rejected(config: Config, source: Source, statistics: dict[str, Any]) -> None:
    limit, counts = config.prepare.max_rejected_fraction, statistics["counts"]
    totals = {
        source.items: counts["catalogue_rows"],
        source.interactions: counts["interaction_rows"],
    }
    for path, total in totals.items():
        found = statistics["rejected"].get(label(path), {})
        num_rejected = sum(row["rows"] for row in found.values())
        if num_rejected > limit * total:
            raise InputError(
                f"{num_rejected:,} of {total:,} rows of {path} were rejected "
                f"({num_rejected / total:.1%}), more than prepare.max_rejected_fraction={limit} "
                f"allows. {_most_frequent(found)} "
                "Correct the file or raise prepare.max_rejected_fraction."
            )


def _most_frequent(found: dict[str, dict[str, Any]]) -> str:
    reason, worst = max(found.items(), key=lambda item: (item[1]["rows"], item[0]))
    share = worst["rows"] / sum(row["rows"] for row in found.values())
    return (
        f"Most frequent reason: {reason} ({worst['rows']:,} rows, {share:.0%} of them, first: "
        f"{worst['first']})."
    )


def _nothing_left(config: Config, source: Source, statistics: dict[str, Any]) -> str:
    rejected = statistics["rejected"].get(label(source.interactions), {})
    left = [size["k"] for size in statistics["cores"] if size["interactions"]]
    remedy = (
        f"The largest k of the table that leaves some is {max(left)}: --set "
        f"prepare.k_core={max(left)}. Or bring more interactions."
        if left
        else f"Every row was rejected. {_most_frequent(rejected)}"
    )
    return (
        f"No interaction of {source.path} is left with prepare.k_core={config.prepare.k_core}, so "
        f"there is nothing to learn from. {remedy}"
    )


def _nothing_to_learn(config: Config, source: Source, statistics: dict[str, Any]) -> str:
    """Why no user has a train interaction with another before it, and what to do."""
    prepare, counts = config.prepare, statistics["counts"]
    longest = max(map(int, statistics["lengths"]))
    split = f"prepare.split={prepare.split}"
    if prepare.split != "leave_last_out":
        split += f" and prepare.test_fraction={prepare.test_fraction}"
    if longest == 1:
        remedy = (
            "Bring data in which users come back, or name the column of the user with "
            "source.columns if user_id is that of an order or a visit."
        )
    elif prepare.split == "ratio":
        remedy = "Lower prepare.test_fraction, or bring longer histories."
    else:
        remedy = "Use prepare.split=ratio with a small prepare.test_fraction, or bring more data."
    return (
        f"There is nothing to learn from in {source.path}: no user has two train interactions, and "
        "only an interaction with one before it teaches something. Received: "
        f"{counts['users']:,} users with {counts['interactions']:,} interactions "
        f"(prepare.k_core={prepare.k_core}), at most {longest} per user, divided by {split}. "
        f"{remedy}"
    )


def _nothing_to_judge(config: Config, counts: dict[str, int]) -> str | None:
    """What later stages will lack; the student can be trained all the same."""
    lacks = []
    if not counts["validation_points"] and config.train.selection == "validation":
        lacks.append(
            f"no user has {MIN_TRAIN_FOR_VALIDATION} train interactions, so there is no "
            "validation point: the student of the last epoch is kept"
        )
    if not counts["test_points"]:
        lacks.append("there is no test point: the student cannot be evaluated")
    if not lacks:
        return None
    return (
        f"{'; '.join(lacks)}. Received: prepare.split={config.prepare.split}, "
        f"prepare.test_fraction={config.prepare.test_fraction}, "
        f"{counts['interactions']:,} interactions of {counts['users']:,} users. Bring longer "
        "histories, or change prepare.test_fraction."
    )


def _mixed_units(source: Source, times: list[int] | None) -> str | None:
    """A file that gives some times in seconds and some in milliseconds has a wrong order."""
    units = [guess_unit(time) or "positions" for time in times or ()]
    if times is None or len(set(units)) < 2:
        return None
    return (
        f"the timestamps of {source.interactions} run from {times[0]:,} to {times[1]:,}, which "
        f"look like {units[0]} and {units[1]}. If the file mixes units, the order of interactions "
        "is wrong: give all of them in one unit, and leave out rows of unknown time."
    )


def _warn(said: str | None) -> None:
    if said is not None:
        console.print(f"Warning: {said}", style="yellow", markup=False)
