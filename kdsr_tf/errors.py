"""Errors that a user can act on.

Each message says what is wrong, where, what was received and the remedy. The
command line prints them without a traceback and exits with status 2.
"""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of a used up quota."""

NO_SPACE = (
    "No space is left on the disk (of the working directory, or of the temporary folder). "
    "Nothing of this stage was committed. Free space, or choose another disk with --workdir or "
    "TMPDIR, and run the same command again."
)

_EXTRAS = {
    "s3fs": ("s3://", "kdsr-tf[aws]"),
    "gcsfs": ("gs://", "kdsr-tf[gcp]"),
    "adlfs": ("az:// and abfs://", "adlfs"),
}
"""Which URIs a module opens, and what to install if it is missing."""

_WEB_MODULES = ("aiohttp", "requests")


def storage_problem(error: Exception) -> str | None:
    """Why `fsspec` cannot open URIs of a kind and the remedy; None if the error is another one."""
    module = getattr(error.__cause__, "name", None)
    if isinstance(error, ImportError) and module in _EXTRAS:
        uris, package = _EXTRAS[module]
        return f"{uris} needs the module {module}, which is not here: pip install '{package}'"
    if isinstance(error, ImportError) and module in _WEB_MODULES:
        return "http(s):// is read for pictures only: download the file"
    if isinstance(error, ValueError) and str(error).startswith("Protocol not known"):
        return f"{str(error).lower()}. Expected: a local path, s3://, gs:// or another of fsspec's"
    return None


class KDSRError(Exception):
    """Base of every error that a user can act on."""


class ConfigError(KDSRError):
    """An unknown key, a wrong type or values that exclude each other."""


class MissingArtifactError(KDSRError):
    """A stage's input does not exist or was never committed."""


class StaleArtifactError(KDSRError):
    """Two artifacts were made from different inputs."""


class InputError(KDSRError):
    """The user's data as a whole cannot be used."""


class TrainingError(KDSRError):
    """Training diverged or cannot go on from its checkpoint."""
