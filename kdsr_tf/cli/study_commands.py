"""`kdsr check`, `repeat`, `experiment`, `search` and `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kdsr_tf.cli.options import BEAM_ARGUMENT, PATH, assignments, configured
from kdsr_tf.errors import KDSRError

if TYPE_CHECKING:
    from kdsr_tf.config import Config

_LEAKS_FOUND = 1
"""Exit status of `kdsr check`."""


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
def check(
    context: click.Context, config: Config, dry_run: bool, near: float, as_json: bool
) -> None:
    """Look for leaks and oddities before training.

    Looks at what has been made so far: sequences, features, examples. Exits with
    status 1 if test interactions leak into training, else with 0.
    """
    from kdsr_tf.cli.study_tables import show_findings
    from kdsr_tf.console import output
    from kdsr_tf.evaluation.checks import run_checks
    from kdsr_tf.evaluation.checks.finding import LEAK

    if dry_run:
        output.print("check writes nothing.")
        return
    found, skipped = run_checks.check(config, near)
    show_findings(found, skipped, as_json)
    if any(one.severity == LEAK for one in found):
        context.exit(_LEAKS_FOUND)


@click.command()
@click.option(
    "--seeds", type=click.IntRange(2), default=5, show_default=True, help="Number of seeds."
)
@configured()
@BEAM_ARGUMENT
def repeat(config: Config, dry_run: bool, seeds: int, beam_args: tuple[str, ...]) -> None:
    """Train and evaluate with several seeds; show mean and interval.

    Everything before training is shared. The students are kept in
    `runs/seed-<seed>/`; seeds that are up to date are not trained again.
    """
    from kdsr_tf.cli.stage_tables import seeds_table, show_plan
    from kdsr_tf.console import console
    from kdsr_tf.runs import seeded_runs

    if dry_run:
        for states in seeded_runs.plan_repeat(config, seeds):
            show_plan(states)
        return
    console.print(seeds_table(*seeded_runs.repeat(config, seeds, beam_args)))


def _list_experiments(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from kdsr_tf.cli.study_tables import show_experiments

        show_experiments()
        context.exit()


@click.command()
@click.argument("name", type=PATH, metavar="NAME_OR_FILE")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_experiments,
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
@configured()
@BEAM_ARGUMENT
@click.pass_context
def experiment(
    context: click.Context,
    config: Config,
    dry_run: bool,
    name: str,
    seeds: int,
    only: tuple[str, ...],
    variables: tuple[str, ...],
    beam_args: tuple[str, ...],
) -> None:
    """Train and evaluate the arms of an experiment; show them as one table.

    Runs that are up to date are not made again, and arms share whatever is equal
    before training. A failed arm does not stop the others. The table goes to
    `experiments/<name>/`, the runs to `runs/<name>-<arm>-seed-<seed>/`.
    """
    from kdsr_tf.cli.study_tables import show_arms, show_results
    from kdsr_tf.experiments.experiment import load_experiment
    from kdsr_tf.experiments.planned_arms import plan_arms
    from kdsr_tf.runs.experiment_runs import cached_external, left_to_do, run_experiment

    chosen = load_experiment(name)
    values = assignments("--var", "NAME=VALUE", variables)
    # The values of --set stand above those of the experiment.
    overrides = context.params["overrides"]
    arms = plan_arms(chosen, config, cached_external(), overrides, only, values)
    if dry_run:
        show_arms(chosen, left_to_do(arms, seeds), seeds)
        return
    results, failures, folder = run_experiment(chosen, config, arms, seeds, beam_args)
    if results is not None:
        show_results(results, folder)
    if failures:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise KDSRError(
            f"{len(failures)} of {len(arms)} arms failed; what the others did is kept.{lines}\n"
            "The same command tries them again."
        )


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
@configured()
@BEAM_ARGUMENT
def search(
    config: Config, dry_run: bool, name: str, trials: int, beam_args: tuple[str, ...]
) -> None:
    """Search configuration keys for the best validation metric.

    The metric is train.monitor; test points are never looked at. Trials that fall
    behind are ended early. The same command goes on after an interruption; a larger
    --trials adds trials. The best configuration is `searches/<name>/best.yaml`.
    """
    from kdsr_tf.cli.stage_tables import show_plan
    from kdsr_tf.cli.study_tables import show_space, show_study
    from kdsr_tf.experiments.search import load_space
    from kdsr_tf.runs import trials as search_trials

    space = load_space(name)
    search_trials.check_search(space, config)
    if dry_run:
        show_space(space, trials)
        show_plan(search_trials.plan_search(config))
        return
    study, folder = search_trials.search(space, config, trials, beam_args)
    show_study(study, folder, config.train.monitor)


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
    from kdsr_tf.cli.comparison_tables import show_comparison
    from kdsr_tf.runs.several_runs import compare_runs

    where = assignments("--where", "SLICE=GROUP", conditions)
    show_comparison(compare_runs(runs, cutoffs, where), style)
