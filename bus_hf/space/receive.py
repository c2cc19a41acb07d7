"""An upload request, taken apart in memory: no byte of it reaches a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bus_hf.data.images import LIMITS
from bus_hf.errors import BusError
from bus_hf.space.uploads import MEGABYTE, SILENT, Sender, Uploads

_MAX_FILES = 1000


class _InMemory(MultiPartParser):
    # 0: no part is moved to a temporary file, however long it is.
    spool_max_size = 0


async def receive(request: Request, uploads: Uploads, sender: Sender) -> list[str]:
    """Keep the files of a multipart request; returns the paths that stand for them.

    Raises:
        BusError: a request that is no upload, a file or all of them too large, no room.
    """
    with uploads.receiving(sender.client) as more:
        parser = _InMemory(request.headers, _counted(request, more), max_files=_MAX_FILES, max_fields=1)
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            if isinstance(error, BusError):
                raise
            raise BusError("this is no upload of files", remedy="send them as multipart/form-data") from None
        try:
            files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
            for one in files:
                if (one.size or 0) > LIMITS.max_bytes:
                    raise BusError(
                        f"a file is larger than the {LIMITS.max_bytes // MEGABYTE} MB that are read",
                        remedy="export a single image",
                    )
            return [uploads.add(one.filename or "", await one.read(), sender) for one in files]
        finally:
            await form.close()


async def _counted(request: Request, more: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), SILENT)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BusError(f"nothing of this upload came for {SILENT:.0f} seconds", remedy="send it again") from None
        more(len(chunk))
        yield chunk
