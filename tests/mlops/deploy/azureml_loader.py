"""Run by the Python that has Azure ML's SDK: load each file, print what its REST body would be.

python azureml_loader.py NAME=FILE …    names are those of the loaders, such as `online_endpoint`
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from typing import Any

BODIES = ("_to_rest_online_endpoint", "_to_rest_batch_endpoint", "_to_rest_object")


def body(entity: Any) -> Any:
    """What the SDK would send for it."""
    make = next(getattr(entity, name) for name in BODIES if hasattr(entity, name))
    wanted = {"location": "westeurope"} if "location" in inspect.signature(make).parameters else {}
    return make(**wanted).as_dict()


def main() -> None:
    warnings.simplefilter("ignore")
    # Not all of them are exported where the others are.
    from azure.ai.ml.entities import _load_functions as sdk

    said = []
    for argument in sys.argv[1:]:
        name, _, file = argument.partition("=")
        try:
            said.append({"accepted": body(getattr(sdk, f"load_{name}")(file))})
        except Exception as error:
            said.append({"refused": f"{type(error).__name__}: {error}"})
    print(json.dumps(said, default=str))


if __name__ == "__main__":
    main()
