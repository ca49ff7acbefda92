"""`kdsr demo`: a generated boutique, from raw files to recommendations over gRPC."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.markup import escape

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.cli import plan
from kdsr_tf.cli.options import DEMO_CONFIG, Invocation
from kdsr_tf.cli.run import run_all
from kdsr_tf.cli.sample import sample_user, show_sample
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.stages import SOURCE

_OWN_FILES = """
[bold]With your own files.[/bold] Put interactions.csv (user_id, item_id, timestamp) and
items.csv (item_id, title, any text, image) into one folder (.parquet and .jsonl work
as well) and type

  {kdsr} run --config {config} --set source.path=FOLDER --workdir work/mine

[bold]Ask this model.[/bold]

  {kdsr} serve --workdir {workdir} &
  {kdsr} query --workdir {workdir} --history {history} --k 5
"""


def demo(invocation: Invocation, num_items: int, num_users: int) -> None:
    """Generate a boutique and run the whole path on it.

    Args:
        invocation: What was asked for.
        num_items: Products.
        num_users: Customers.
    """
    config, source = _with_source(invocation.config)
    arguments = {"num_items": num_items, "num_users": num_users, "seed": config.seed}
    manifest = Manifest(
        artifact=SOURCE,
        fingerprint=artifacts.fingerprint({"generator": "demo", "version": 1, **arguments}),
        config=arguments,
    )
    found = artifacts.find_manifest(source)
    generated = found is not None and found.fingerprint == manifest.fingerprint
    if invocation.dry_run:
        console.print(f"The boutique would be {'kept' if generated else 'generated'}: {source}")
        external = (
            plan.external_fingerprints(config)
            if generated
            else dict.fromkeys(stages.external_inputs(config), plan.NOT_GENERATED)
        )
        console.print(plan.plan_table(plan.make_plan(config, external)))
        return
    with locked(config.workdir):
        if not generated:
            from kdsr_tf.datasets.demo import generate

            with artifacts.committing(source, manifest) as target:
                generate(target, **arguments)
        config_path = run_all(config, plan.external_fingerprints(config))
        _show_hints(config)
        show_sample(config, config_path)


def _show_hints(config: Config) -> None:
    try:
        history = sample_user(config)[1][-3:]
    except KDSRError:  # nobody has a test part
        history = ["ID", "ID"]
    words = {
        "kdsr": _command(),
        "config": _shown(DEMO_CONFIG),
        "workdir": shlex.quote(config.workdir),
        "history": shlex.quote(",".join(history)),
    }
    hints = _OWN_FILES.format(**{name: escape(word) for name, word in words.items()})
    console.print(hints, soft_wrap=True)


def _command() -> str:
    """How this shell reaches `kdsr`: by name, or in an environment that is not active."""
    installed = Path(sys.executable).with_name("kdsr")
    return "kdsr" if shutil.which("kdsr") or not installed.exists() else _shown(installed)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _with_source(config: Config) -> tuple[Config, str]:
    if config.source.path is not None:
        raise ConfigError(
            "`kdsr demo` generates its own files. "
            f"Received: source.path={config.source.path}. Use `kdsr run --config FILE`."
        )
    path = artifacts.join(os.path.abspath(config.workdir), SOURCE)
    source = config.source.model_copy(update={"path": path})
    return config.model_copy(update={"source": source}), path
