from tests.export.fixtures import models  # noqa: F401
