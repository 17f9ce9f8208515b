"""Run by the Python that has kubernetes-validate: check each object of a file, print what is wrong.

python kubernetes_checker.py VERSION FILE
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    import kubernetes_validate
    import yaml

    version, file = sys.argv[1:]
    errors = []
    with open(file) as text:
        for document in yaml.safe_load_all(text):
            try:
                kubernetes_validate.validate(document, version, strict=True)
                errors.append("")
            except kubernetes_validate.ValidationError as error:
                errors.append(f"{'.'.join(str(part) for part in error.path)}: {error.message}")
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
