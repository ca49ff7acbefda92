"""`kdsr doctor`: versions, devices and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TYPE_CHECKING

import click

from kdsr_tf.errors import KDSRError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_DISTRIBUTION = "kdsr-tf"
_GIB = 2**30


@click.command()
def doctor() -> None:
    """Print versions and devices, and name what is missing."""
    from kdsr_tf.console import output, table

    rows, missing = [], []
    for requirement in _requirements():
        found = _version(requirement.name)
        fits = found is not None and requirement.specifier.contains(found, prereleases=True)
        if not fits:
            missing.append(str(requirement))
        state = "ok" if fits else "missing" if found is None else "another version"
        rows.append((requirement.name, str(requirement.specifier) or "any", found or "", state))
    output.print(table("Packages", ("package", "needed", "found", "state"), rows))
    output.print(table("Machine", ("what", "value"), _machine()))
    output.print(table("Devices", ("library", "device"), _devices()))
    if missing:
        quoted = " ".join(f"'{requirement}'" for requirement in missing)
        raise KDSRError(
            f"Missing or of another version: {', '.join(missing)}.\n"
            f"Install: {sys.executable} -m pip install {quoted}"
        )
    output.print("Nothing is missing.")


def _requirements() -> list[Requirement]:
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        raise KDSRError(
            f"{_DISTRIBUTION} itself is not installed, so its requirements are unknown.\n"
            f"Install, in its folder: {sys.executable} -m pip install -c constraints.txt -e ."
        ) from None
    requirements = [Requirement(line) for line in lines]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> list[tuple[str, str]]:
    import psutil

    return [
        ("kdsr-tf", _version(_DISTRIBUTION) or ""),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", platform.platform()),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{psutil.virtual_memory().total / _GIB:.1f} GiB"),
        ("keras backend", os.environ.get("KERAS_BACKEND", "tensorflow")),
    ]


def _devices() -> list[tuple[str, str]]:
    rows = []
    if _version("tensorflow") is not None:
        import tensorflow as tf

        rows += [("tensorflow", device.name) for device in tf.config.list_physical_devices()]
    if _version("jax") is not None:
        import jax

        rows += [("jax", str(device)) for device in jax.devices()]
    return rows
