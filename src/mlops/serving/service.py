"""The service without HTTP: the model in use, loading of another, metrics, samples."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from mlops.base.errors import UserError
from mlops.contract import bundle
from mlops.contract.bundle import Array
from mlops.serving.inference import Inference
from mlops.serving.invocations import Invocations
from mlops.serving.metrics import Metrics
from mlops.serving.model import Model, Rows, load
from mlops.serving.predict import Predict
from mlops.serving.rows import Columns
from mlops.serving.samples import Samples
from mlops.serving.scorer import Scorer
from mlops.serving.settings import Settings

# Seconds between two looks at a bundle's path.
INTERVAL = 1.0
# Bytes of the longest name of a folder.
LONGEST_NAME = 1024
log = logging.getLogger("mlops.serving")


def find(path: Path) -> Path:
    """The bundle's folder: `path`, or the folder beside it that the file `path` names now.

    Raises UserError when there is none.
    """
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
        self._path = Path(settings.bundle)
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
        if self.samples:
            await asyncio.to_thread(self.samples.stop)

    async def score(self, endpoint: Endpoint, rows: Rows, identity: str) -> list[Array]:
        """The outputs for these rows, each (rows,); `identity` is the request's id in samples."""
        outputs = await self.scorer.score(endpoint.model, rows, alone=self.requests == 1)
        if self.samples:
            self.samples.offer(endpoint.model, rows, outputs, identity)
        return outputs

    def _load(self) -> None:
        folder = find(self._path)
        loaded = load(folder, self.settings.version, self.settings.threads)
        self.endpoint = Endpoint(loaded, self.settings.rows)
        self.metrics.serve(loaded)

    async def _watch_path(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            seen = _stamp(self._path)
            if seen == self._seen:
                continue
            self._seen, before = seen, self.endpoint.model.digest
            try:
                await asyncio.to_thread(self._load)
                self.metrics.swaps.labels("done").inc()
                digest = self.endpoint.model.digest
                log.info("bundle loaded", extra={"before": before, "digest": digest})
            # Whatever is wrong with a bundle, its path is looked at again.
            except Exception as error:
                self.metrics.swaps.labels("refused").inc()
                log.error("bundle refused", extra={"reason": " ".join(str(error).split())})
