"""Score rows from Python with requests.

MLOPS_SERVING_URL is the service's address, MLOPS_SERVING_TOKEN its bearer token.
"""

from __future__ import annotations

import json
import os

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL = os.environ.get("MLOPS_SERVING_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("MLOPS_SERVING_TOKEN")


def connect() -> requests.Session:
    """Return a session that reuses connections and repeats requests while the service is busy."""
    session = requests.Session()
    if TOKEN:
        session.headers["authorization"] = f"Bearer {TOKEN}"
    # Scoring changes nothing, so a request can be repeated; Retry-After is respected.
    retry = Retry(total=5, status_forcelist=[429, 503], allowed_methods=None, backoff_factor=0.5)
    session.mount(URL, HTTPAdapter(max_retries=retry))
    return session


def post(service: requests.Session, path: str, body: object) -> requests.Response:
    """Return the response; raises ValueError with the service's error message."""
    response = service.post(URL + path, json=body, timeout=30)
    if not response.ok:
        raise ValueError(f"{response.status_code}: {response.json()['error']}")
    return response


def main() -> None:
    service = connect()
    # A row of the training data; every bundle has one.
    row = service.get(f"{URL}/model", timeout=30).json()["example"]

    try:
        post(service, "/predict", {**row, "colour": "green"})
    except ValueError as error:
        print(error)

    answer = post(service, "/predict", [row, row]).json()
    print(f"bundle {answer['digest'][:12]}: {len(answer['predictions'])} rows")
    print(json.dumps(answer["predictions"][0]))


if __name__ == "__main__":
    main()
