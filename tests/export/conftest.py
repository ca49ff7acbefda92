from tests.export.fixtures import models, workdir  # noqa: F401
