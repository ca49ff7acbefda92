"""Runs the blocks of commands that no test runs, on a machine that has what they need.

    python -m tests.run_blocks docs/teacher.md --put FOLDER=data/beauty \
        --put FOLDER_OR_PRESET=data/minilm
    python -m tests.run_blocks docs/runners.md --put my-project=ours --put my-bucket=our-bucket
    python -m tests.run_blocks --list

The tests run all that runs anywhere (`tests/doc_commands.py`); what is left needs data and
weights, containers, a cloud or a cluster. Blocks run as they stand, but for the words of
`--put`, from the folder of the repository; the first failure ends it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from tests.doc_commands import PAGES, ROOT, other_blocks

FAILED = "FAILED"


def replaced(script: str, words: Mapping[str, str]) -> str:
    """The script with other words in the place of its placeholders.

    Raises:
        ValueError: for a placeholder in capitals that is left.
    """
    for word, value in words.items():
        script = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", lambda _, v=value: v, script)
    left = re.findall(r"(?<=[= ])(?:FOLDER\w*|FILE|RUN\d?)\b", script)
    if left:
        raise ValueError(f"{', '.join(sorted(set(left)))}: say with --put what they stand for.")
    return script


def run(script: str, seconds: float) -> str:
    """Run a block, and say how it ended; what still runs when time is up, as a server, is ended."""
    environment = os.environ | {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
    command = ["bash", "-euc", script]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        return FAILED if process.wait(seconds) else "ok"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        return "still ran"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    parser.add_argument("--put", action="append", default=[], metavar="WORD=VALUE")
    parser.add_argument("--list", action="store_true", help="print the blocks alone")
    parser.add_argument("--seconds", type=float, default=7_200, help="for each block")
    arguments = parser.parse_args()
    words = dict(pair.split("=", 1) for pair in arguments.put)
    for page in arguments.pages:
        for script in other_blocks(page):
            if arguments.list:
                print(f"# {page}\n{script}\n")
                continue
            started = time.monotonic()
            try:
                script = replaced(script, words)
            except ValueError as error:
                sys.exit(f"{page}: {error}\n{script}")
            ended = run(script, arguments.seconds)
            print(f"{page}: {ended}, {time.monotonic() - started:.0f} s")
            if ended == FAILED:
                sys.exit(script)


if __name__ == "__main__":
    main()
