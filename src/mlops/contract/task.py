"""The kinds of problems that can be learnt."""

from typing import Literal

Task = Literal["binary", "multiclass", "regression"]
