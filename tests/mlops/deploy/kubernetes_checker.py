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
    said = []
    with open(file) as text:
        for document in yaml.safe_load_all(text):
            try:
                kubernetes_validate.validate(document, version, strict=True)
                said.append("")
            except kubernetes_validate.ValidationError as error:
                said.append(f"{'.'.join(str(part) for part in error.path)}: {error.message}")
    print(json.dumps(said))


if __name__ == "__main__":
    main()
