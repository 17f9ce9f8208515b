"""Run one stage in the current folder and print, as JSON, which parameters its result was made
with: `python tests/observe.py STAGE`.
"""

import importlib
import json
import sys
from pathlib import Path

from mlops.contract import params
from mlops.contract.params import Section
from mlops.contract.stages import MODULES


class Recorder:
    """A section of the parameters that notes which of its keys are read."""

    def __init__(self, section, read, path=()):
        self._section, self._read, self._path = section, read, path

    def __getattr__(self, name):
        value = getattr(self._section, name)
        if isinstance(value, Section):
            return Recorder(value, self._read, (*self._path, name))
        self._note(name)
        return value

    def model_dump(self, *, include, **options):
        for name in include:
            value = getattr(self._section, name)
            inner = value.model_dump() if isinstance(value, Section) else ()
            for key in [f"{name}.{key}" for key in inner] or [name]:
                self._note(key)
        return self._section.model_dump(include=include, **options)

    def _note(self, name):
        self._read.add(".".join((*self._path, name)))


if __name__ == "__main__":
    read = set()
    stage = importlib.import_module(MODULES[sys.argv[1]])
    stage.run(Recorder(params.load_all(), read), Path())
    print(json.dumps(sorted(read)))
