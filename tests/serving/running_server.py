"""A real server on a real port, in a thread of its own, over fake encoders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from serving.config import ServerConfig
from serving.encoders.loading import BundleFolder
from serving.server import Server
from tests.serving.fake_encoders import FakeEncoder, FakeLoader, write_bundle

Result = TypeVar("Result")


class RunningServer:
    """A server whose event loop runs in a thread; tests speak to it over its port."""

    def __init__(self, config: ServerConfig, loader: FakeLoader, *, wait: bool = True) -> None:
        self._config = config
        self.loader = loader
        self._loop = asyncio.new_event_loop()
        self._closing: Future[bool] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self._call(self._start())
        self._loading = asyncio.run_coroutine_threadsafe(self.server.load(), self._loop)
        if wait:
            self._loading.result(30)

    @property
    def address(self) -> str:
        return self.server.address

    async def _start(self) -> Server:
        bundles = BundleFolder(self._config.bundles, self._config.runtime, load=self.loader)
        server = Server(self._config, bundles=bundles)
        await server.listen()
        return server

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def begin_close(self) -> Future[bool]:
        """Begins the drain; the future says whether all that was accepted was finished."""
        if self._closing is None:
            self._closing = asyncio.run_coroutine_threadsafe(self.server.close(), self._loop)
        return self._closing

    def close(self) -> bool:
        self._loading.result(30)
        finished = self.begin_close().result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        return finished


@contextmanager
def running_server(
    folder: Path,
    encoders: Sequence[FakeEncoder],
    *,
    wait: bool = True,
    hold_loading: bool = False,
    refuse: Sequence[str] = (),
    **settings: object,
) -> Iterator[RunningServer]:
    """A server over fake encoders, on a free port; `refuse` names those whose bundles are damaged."""
    bundles = folder / "bundles"
    bundles.mkdir(exist_ok=True)
    for encoder in encoders:
        if not (bundles / encoder.info.name).exists():
            write_bundle(bundles, encoder.info.name)
    loader = FakeLoader(*encoders, refuse=refuse)
    if hold_loading:
        loader.open.clear()
    config = ServerConfig(bundles=bundles, data=folder / "data", port=0, **settings)  # type: ignore[arg-type]  # as given
    running = RunningServer(config, loader, wait=wait)
    try:
        yield running
    finally:
        loader.open.set()
        running.close()
