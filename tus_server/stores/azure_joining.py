"""Putting a blob together from others: by the service where it can and may read them, else through this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tus_server.parts import MIB
from tus_server.stores.azure_blobs import AzureBlobs, Unsupported
from tus_server.stores.azure_sink import AzureSink

logger = logging.getLogger("tus_server.azure")

#: Bytes that the service copies in one call of ours, and that go through this process in one: about a second.
COPIED, CARRIED = 256 * MIB, 32 * MIB
#: Size of one copied block; smaller pieces than ``WORTH_COPYING`` are carried and gathered.
PIECE, WORTH_COPYING = 64 * MIB, 1 * MIB
#: Bytes that are read at once.
READ = 4 * MIB


def join(
    sink: AzureSink, blobs: AzureBlobs, sources: Sequence[tuple[str, int]], sign: Callable[[str], str] | None
) -> None:
    """Append the next bytes of the sources to a sink, as many as take about a second. The caller settles it.

    Args:
        sink: Stands where the sources end that are there already.
        blobs: Where all of them are.
        sources: Name and size in bytes of each, in order.
        sign: As ``AzureStore`` has it.

    Raises:
        FileNotFoundError: A source is gone.
    """
    begin = sink.position
    copied, carried = begin + COPIED, begin + CARRIED
    start = 0
    for name, size in sources:
        end = start + size
        while start <= sink.position < end:
            offset, left = sink.position - start, end - sink.position
            if sign is not None and left >= WORTH_COPYING:
                if sink.position >= copied:
                    return
                try:
                    sink.stage_from(sign(name), offset, min(left, PIECE))
                    continue
                except Unsupported as error:
                    logger.info("The service does not copy blocks (%s); they go through this process", error)
                    sign = None
            if sink.position >= carried:
                return
            data = blobs.read(name, offset, min(left, READ))
            if not data:
                raise FileNotFoundError(f"{name} ends at {offset} bytes, not at {size}")
            sink.write(memoryview(data))
        start = end
