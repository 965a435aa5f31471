"""The event streams of one application, which end together once its drain is over."""

import asyncio


class OpenStreams:
    def __init__(self) -> None:
        self._open: set[asyncio.Future[None]] = set()
        self._are_cut = False

    async def until_cut(self) -> None:
        """What a stream waits for beside its frames."""
        if self._are_cut:
            return
        cut = asyncio.get_running_loop().create_future()
        self._open.add(cut)
        try:
            await cut
        finally:
            self._open.discard(cut)

    def cut(self) -> None:
        """End those that are open, and from now on each that is opened. In their event loop."""
        self._are_cut = True
        for cut in self._open:
            if not cut.done():
                cut.set_result(None)
