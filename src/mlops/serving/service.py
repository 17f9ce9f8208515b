"""The service itself, without HTTP: the model in use, its swaps, its counts, its samples."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mlops.contract.bundle import Array
from mlops.serving import model
from mlops.serving.endpoint import Endpoint
from mlops.serving.metrics import Metrics
from mlops.serving.model import Batch
from mlops.serving.place import Place
from mlops.serving.rows import Rows
from mlops.serving.samples import Samples
from mlops.serving.scorer import Scorer
from mlops.serving.settings import Settings

log = logging.getLogger("mlops.serving")


class Service:
    """Scores with one model, and changes to another when its place says so.

    A swap loads and tries the new bundle beside the old one; requests under way end with the
    model that they began with. A bundle that fails leaves the old one in use.
    """

    def __init__(self, place: Place, settings: Settings) -> None:
        self.place = place
        self.settings = settings
        self.stopping = False
        self.metrics = Metrics()
        self.samples = Samples(settings, self.metrics) if settings.samples else None
        self.scorer = Scorer(settings, self.metrics.run)
        self._use(place.find())
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the model's place."""
        if self.samples:
            self.samples.start()
        self._watch = asyncio.get_running_loop().create_task(self._watching())

    async def stop(self) -> None:
        """Let what was begun end, and keep what was sampled."""
        self.stopping = True
        if self._watch:
            self._watch.cancel()
        self.scorer.close()
        if self.samples:
            await asyncio.to_thread(self.samples.stop)

    async def score(self, endpoint: Endpoint, rows: Rows | Batch, request: str) -> list[Array]:
        """The outputs for these rows, in the card's order, each (rows,); raises Refusal."""
        outputs = await self.scorer.score(endpoint.model, rows)
        self.sample(endpoint, rows, outputs, request)
        return outputs

    def sample(
        self, endpoint: Endpoint, rows: Rows | Batch, outputs: list[Array], request: str
    ) -> None:
        """Keep a share of what was asked and answered, if any."""
        if self.samples:
            self.samples.offer(endpoint.model, rows, outputs, request)

    def _use(self, folder: Path) -> None:
        loaded = model.load(folder, self.place.version, self.settings.threads)
        self.endpoint = Endpoint(loaded, self.settings.rows)
        self.metrics.serve(loaded)

    async def _watching(self) -> None:
        while True:
            await asyncio.sleep(self.place.interval)
            try:
                folder = self.place.changed()
                if folder:
                    await self._swap(folder)
            # Whatever is wrong with a bundle, its place is looked at again.
            except Exception as error:
                self.metrics.swaps.labels("refused").inc()
                log.error("bundle refused", extra={"reason": " ".join(str(error).split())})

    async def _swap(self, folder: Path) -> None:
        before = self.endpoint.model.digest
        loaded = await asyncio.to_thread(
            model.load, folder, self.place.version, self.settings.threads
        )
        self.endpoint = Endpoint(loaded, self.settings.rows)
        self.metrics.serve(loaded)
        self.metrics.swaps.labels("done").inc()
        log.info("bundle loaded", extra={"before": before, "digest": loaded.digest})
