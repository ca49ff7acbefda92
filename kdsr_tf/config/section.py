"""What every section of the configuration shares."""

from __future__ import annotations

from typing import Annotated

import pydantic

from kdsr_tf.paths import expand_home

PositiveInt = Annotated[int, pydantic.Field(gt=0)]
PositiveFloat = Annotated[float, pydantic.Field(gt=0)]
NonNegativeInt = Annotated[int, pydantic.Field(ge=0)]
NonNegativeFloat = Annotated[float, pydantic.Field(ge=0)]
Fraction = Annotated[float, pydantic.Field(ge=0, lt=1)]
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**31)]
PathText = Annotated[str, pydantic.AfterValidator(expand_home)]
"""Local path, URI or name; a leading `~` becomes the home folder."""


class Section(pydantic.BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", validate_assignment=True, strict=False)
