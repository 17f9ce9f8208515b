"""The service without HTTP: the model in use, loading of another, metrics, samples."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mlops.base.errors import UserError, one_line
from mlops.contract import bundle
from mlops.contract.bundle import Array
from mlops.serving.inference import Inference
from mlops.serving.invocations import Invocations
from mlops.serving.lookup import Lookup
from mlops.serving.metrics import Metrics
from mlops.serving.model import Model, Rows, load
from mlops.serving.predict import Predict
from mlops.serving.rows import Columns
from mlops.serving.samples import Sample, Samples
from mlops.serving.scorer import Scorer
from mlops.serving.settings import Settings

Result = TypeVar("Result")
# Seconds between two looks at a bundle's path, and looks until a bundle that failed is tried again.
INTERVAL = 1.0
LOOKS = 30
# Bytes of a body: others don't wait while a larger one is decoded or its answer encoded.
LARGE = 64 * 1024
# Bytes of the longest name of a folder.
LONGEST_NAME = 1024
log = logging.getLogger("mlops.serving")


def find(path: Path) -> Path:
    """The bundle's folder: `path`, or the one beside it that the file `path` names now."""
    try:
        folder = path.parent / _name(path) if path.is_file() else path
        if (folder / bundle.CARD).is_file():
            return folder
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    raise UserError(f"{folder}: found no {bundle.CARD}, expected a bundle's folder")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when another bundle lies, or is named, at a path."""
    try:
        status = os.stat(path / bundle.CARD if path.is_dir() else path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _name(file: Path) -> str:
    with file.open("rb") as content:
        name = content.read(LONGEST_NAME + 1).decode(errors="replace").strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError(f"{file}: expected one line with the name of a bundle's folder")
    return name


class Endpoint:
    """A loaded model behind the three protocols; a request may have `rows` at most.

    `below` has, for each path of the model's own, its part below /v2/models/NAME.
    """

    def __init__(self, model: Model, rows: int) -> None:
        self.model = model
        self.name, version = model.card.name, model.version
        columns = Columns(model, rows)
        self.predict = Predict(model, columns)
        self.invocations = Invocations(model, columns)
        self.inference = Inference(model, columns)
        self.headers = [("x-model-name", self.name), ("x-model-version", version)]
        self.headers.append(("x-model-digest", model.digest))
        bases = [f"/v2/models/{self.name}"]
        if version:
            bases.append(f"{bases[0]}/versions/{version}")
        self.below = {f"{base}{rest}": rest for base in bases for rest in ("", "/ready", "/infer")}


class Service:
    """Scores with one model, and changes to another when its path names another.

    `requests` are under way; when it is `stopping` it is not ready.

    The new bundle is loaded and tried beside the old one; requests under way end with the model
    that they began with. A bundle that fails leaves the old one in use.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.requests = 0
        self.metrics = Metrics()
        self.samples = Samples(settings, self.metrics) if settings.samples else None
        self.scorer = Scorer(settings, self.metrics.scored)
        self.lookup = Lookup(settings, self.metrics)
        self._path = Path(settings.bundle)
        self._first = ""
        self._seen = _stamp(self._path)
        self._load()
        self._watch: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to look at the bundle's path again and again."""
        if self.samples:
            self.samples.start()
        self._watch = loop.create_task(self._watch_path())

    async def stop(self) -> None:
        """Let what was begun end, and write the samples that wait."""
        self.stopping = True
        if self._watch:
            self._watch.cancel()
        self.scorer.close()
        await self.lookup.close()
        if self.samples:
            await asyncio.to_thread(self.samples.stop)

    async def call(self, size: int, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call what decodes or encodes a request of `size` bytes, a large one in a thread."""
        if size <= LARGE:
            return function(*arguments)
        return await asyncio.to_thread(function, *arguments)

    async def score(
        self, endpoint: Endpoint, rows: Rows, identity: str, size: int
    ) -> tuple[list[Array], list[float]]:
        """The outputs for rows of a body of `size` bytes; `identity` is the id in samples.

        Where features were looked up, how old those of each row are, in seconds, too.
        """
        model, ages = endpoint.model, list[float]()
        if rows.partial:
            rows, ages = await self.lookup.complete(model, rows)
        outputs = await self.scorer.score(model, rows, alone=self.requests == 1)
        if self.samples:
            self.samples.offer(Sample(time.time(), identity, model, rows, outputs, size))
        return outputs, ages

    def _load(self) -> None:
        folder, it = find(self._path), self.settings
        if it.signature:
            # Its libraries are loaded where they are asked for.
            from mlops.serving.signature import verify

            verify(bundle.digest(folder), it.signature, it.key, it.identity, it.issuer, it.trust)
        loaded = load(folder, threads=it.threads)
        # The version that was given is that of the first bundle.
        self._first = self._first or loaded.digest
        if loaded.digest == self._first:
            loaded = replace(loaded, version=self.settings.version)
        self.endpoint = Endpoint(loaded, self.settings.rows)
        self.metrics.serve(loaded)

    async def _watch_path(self) -> None:
        looks, refused = 0, ""
        while True:
            await asyncio.sleep(INTERVAL)
            seen, looks = _stamp(self._path), looks + 1
            if seen == self._seen and not (refused and looks >= LOOKS):
                continue
            self._seen, looks, before = seen, 0, self.endpoint.model.digest
            try:
                await asyncio.to_thread(self._load)
            # Whatever is wrong with a bundle, it is tried again: it may have been half written.
            except Exception as error:
                reason = one_line(error)
                if reason != refused:
                    self.metrics.swaps.labels("refused").inc()
                    log.error("bundle refused", extra={"reason": reason})
                refused = reason
                continue
            refused, digest = "", self.endpoint.model.digest
            self.metrics.swaps.labels("done").inc()
            log.info("bundle loaded", extra={"before": before, "digest": digest})
