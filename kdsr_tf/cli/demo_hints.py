"""What a user may type after `kdsr demo`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.markup import escape

from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import KDSRError
from kdsr_tf.runs.closing_question import sample_user

_OWN_FILES = """
[bold]With your own files.[/bold] Put interactions.csv (user_id, item_id, timestamp) and
items.csv (item_id, title, any text, image) into one folder (.parquet and .jsonl work
as well) and type

  {kdsr} run --config {config} --set source.path=FOLDER --workdir work/mine

[bold]Ask this model.[/bold]

  {kdsr} serve --workdir {workdir} &
  {kdsr} query --workdir {workdir} --history {history} --k 5
"""


def show_hints(config: Config, config_file: Path) -> None:
    """Print the commands for a user's own files, and for a question to this model."""
    try:
        history = sample_user(config)[1][-3:]
    except KDSRError:  # nobody has a test part
        history = ["ID", "ID"]
    words = {
        "kdsr": _command(),
        "config": _shown(config_file),
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
