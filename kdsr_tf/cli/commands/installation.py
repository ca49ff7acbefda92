"""`kdsr doctor`."""

from __future__ import annotations

import click


@click.command()
def doctor() -> None:
    """Print versions and devices, and name what is missing."""
    from kdsr_tf.cli import doctor

    doctor.doctor()
