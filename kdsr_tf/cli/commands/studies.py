"""`kdsr check`, `repeat`, `experiment`, `search` and `compare`."""

from __future__ import annotations

import click

from kdsr_tf.cli.options import PATH, Invocation, configured


@click.command()
@configured()
@click.option(
    "--near",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.98,
    show_default=True,
    help="Cosine from which two items are near-duplicates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(context: click.Context, invocation: Invocation, near: float, as_json: bool) -> None:
    """Look for leaks and oddities before training.

    Looks at what has been made so far: sequences, features, examples. Exits with
    status 1 if test interactions leak into training, else with 0.
    """
    from kdsr_tf.cli import check

    context.exit(check.check(invocation, near, as_json))


@click.command()
@click.option(
    "--seeds", type=click.IntRange(2), default=5, show_default=True, help="Number of seeds."
)
@configured(beam=True)
def repeat(invocation: Invocation, seeds: int) -> None:
    """Train and evaluate with several seeds; show mean and interval.

    Everything before training is shared. The students are kept in
    `runs/seed-<seed>/`; seeds that are up to date are not trained again.
    """
    from kdsr_tf.cli import repeat

    repeat.repeat(invocation, seeds)


def _list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from kdsr_tf.cli.experiment import show_experiments

        show_experiments()
        context.exit()


@click.command()
@click.argument("name", type=PATH, metavar="NAME_OR_FILE")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the experiments that come with KDSR-TF and stop.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="Seeds of every arm."
)
@click.option(
    "--only", multiple=True, metavar="ARM", help="Only these arms: name or pattern. Repeatable."
)
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a variable of the experiment, such as a preset's folder. Repeatable.",
)
@configured(beam=True)
def experiment(
    invocation: Invocation,
    name: str,
    seeds: int,
    only: tuple[str, ...],
    variables: tuple[str, ...],
) -> None:
    """Train and evaluate the arms of an experiment; show them as one table.

    Runs that are up to date are not made again, and arms share whatever is equal
    before training. A failed arm does not stop the others. The table goes to
    `experiments/<name>/`, the runs to `runs/<name>-<arm>-seed-<seed>/`.
    """
    from kdsr_tf.cli import experiment

    experiment.experiment(invocation, name, seeds, only, variables)


@click.command()
@click.option(
    "--space",
    "name",
    type=PATH,
    default="search",
    metavar="FILE",
    help="YAML file of the space; without it λ1, λ2, τ, ε, dropout and η.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Trials in all, those of earlier calls included.",
)
@configured(beam=True)
def search(invocation: Invocation, name: str, trials: int) -> None:
    """Search configuration keys for the best validation metric.

    The metric is train.monitor; test points are never looked at. Trials that fall
    behind are ended early. The same command goes on after an interruption; a larger
    --trials adds trials. The best configuration is `searches/<name>/best.yaml`.
    """
    from kdsr_tf.cli import search

    search.search(invocation, name, trials)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--k", "cutoffs", type=click.IntRange(1), multiple=True, help="Cutoff. Repeatable.")
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="SLICE=GROUP",
    help="Only test points of a group, such as target_training=cold. Repeatable.",
)
@click.option("--markdown", "style", flag_value="markdown", help="Print a Markdown table.")
@click.option("--csv", "style", flag_value="csv", help="Print CSV.")
@click.option("--json", "style", flag_value="json", help="Print JSON.")
def compare(
    runs: tuple[str, ...],
    cutoffs: tuple[int, ...],
    conditions: tuple[str, ...],
    style: str | None,
) -> None:
    """Compare runs with the first of them.

    A RUN is a working directory, a folder runs/NAME or an evaluation folder; a folder
    (or its seeds.json) where `kdsr repeat` worked, or a quoted pattern such as
    'work/runs/kd-seed-*', is one run of several seeds. NAME=PATH gives it a name.

    Intervals are 95%, from 1,000 bootstrap samples of users. p is of a paired
    randomisation test over users (9,999 draws). For several seeds there is also a t
    test over seeds: paired where both runs hold the same seeds, else Welch's. "Holm" is
    corrected for all differences in the table.
    """
    from kdsr_tf.cli import compare

    compare.compare(runs, cutoffs, conditions, style)
