"""Ask the service from Python, with requests.

MLOPS_SERVING_URL says where it is, MLOPS_SERVING_TOKEN its token.
"""

from __future__ import annotations

import json
import os

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL = os.environ.get("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("MLOPS_SERVING_TOKEN")


def session() -> requests.Session:
    """Connections that are kept, and requests that come back when the service is busy."""
    made = requests.Session()
    if TOKEN:
        made.headers["authorization"] = f"Bearer {TOKEN}"
    # A score changes nothing, so it may be asked for again. Retry-After is obeyed.
    retry = Retry(total=5, status_forcelist=[429, 503], allowed_methods=None, backoff_factor=0.5)
    made.mount(URL, HTTPAdapter(max_retries=retry))
    return made


def ask(service: requests.Session, path: str, body: object) -> requests.Response:
    """The answer; raises ValueError with the service's own words when it refuses."""
    answer = service.post(URL + path, json=body, timeout=30)
    if not answer.ok:
        raise ValueError(f"{answer.status_code}: {answer.json()['error']}")
    return answer


def main() -> None:
    service = session()
    # A real row of the training data, which every bundle carries.
    row = service.get(f"{URL}/model", timeout=30).json()["example"]

    try:
        ask(service, "/predict", {**row, "colour": "green"})
    except ValueError as error:
        print(error)

    answer = ask(service, "/predict", [row, row]).json()
    print(f"bundle {answer['digest'][:12]}: {len(answer['predictions'])} rows")
    print(json.dumps(answer["predictions"][0]))


if __name__ == "__main__":
    main()
