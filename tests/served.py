"""The scoring service as a real process on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mlops.base import processes

START_SECONDS = 60


@dataclass(frozen=True)
class Reply:
    """A response of the service."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


@dataclass
class Served:
    """A running service, its log, and headers that are sent with each request."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask(urllib.request.Request(self.url + path, headers=self.headers | headers))

    def post(self, path: str, body: Any, kind: str = "application/json", **headers: str) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {**self.headers, "content-type": kind, **headers}
        return self.ask(urllib.request.Request(self.url + path, content, named))

    def ask(self, request: urllib.request.Request) -> Reply:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Reply(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read(), dict(error.headers))

    def count(self, name: str, **labels: str) -> float:
        """A counter of /metrics, summed over the labels that are not given."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)
        )

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    @property
    def memory(self) -> float:
        """Resident memory of the workers, in megabytes."""
        return sum(worker.memory_info().rss for worker in self.workers) / 1e6

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)


@contextmanager
def served(bundle: Path, folder: Path, *options: str, **environment: str) -> Iterator[Served]:
    """The service on `bundle`, its log in `folder`, until the block ends."""
    port, log = processes.free_port(), folder / "service.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops.serving", str(bundle), f"--port={port}", *options],
            env={**os.environ, **environment}, stdout=file, stderr=file,
        )  # fmt: skip
    service = Served(process, port, log)
    try:
        ready = processes.wait(
            lambda: processes.answers(f"{service.url}/v2/health/ready"),
            lambda: process.poll() is None,
            START_SECONDS,
        )
        assert ready, log.read_text()
        yield service
    finally:
        if process.poll() is None:
            # At once: SIGTERM drains first.
            process.send_signal(signal.SIGINT)
        process.wait(START_SECONDS)
