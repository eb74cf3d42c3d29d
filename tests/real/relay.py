"""A TCP relay that resets connections at chosen moments of an HTTP/1.1 exchange, run as a program of its own.

It reads one request after another from each connection, draws a fault for each from a seeded generator, and prints at
its end how often each was injected. Requests must carry a content-length or no body, since that is all it reads.

    python relay.py LISTEN_PORT UPSTREAM_PORT SEED
"""

import asyncio
import json
import os
import random
import signal
import socket
import struct
import sys

# What may happen to a request, and its weight.
FAULTS = {
    "none": 80,
    "reset_on_accept": 0,  # drawn for a connection, see ACCEPT_SHARE
    "reset_in_head": 3,  # part of the head was read; the application sees nothing
    "reset_in_body": 3,  # the application sees the head and half of the body
    "reset_when_read": 4,  # the application reads it all and executes it; no byte of the answer gets through
    "close_when_read": 3,  # the same, with an orderly close
    "reset_in_answer": 2,  # half of the answer gets through
    "close_after": 3,  # answered in full, then closed: whoever reuses the connection finds it dead
    "reset_after": 2,
}
ACCEPT_SHARE = 0.05


class Relay:
    """The relay's settings, its generator and its counts."""

    def __init__(self, upstream, seed):
        self._upstream = upstream
        self._random = random.Random(seed)
        self.injected = dict.fromkeys(FAULTS, 0)

    async def serve(self, reader, writer):
        """One connection of the proxy, with a connection to the application of its own."""
        if self._random.random() < ACCEPT_SHARE:
            self.injected["reset_on_accept"] += 1
            return reset(writer)
        upstream = None
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            while await self._exchange(reader, writer, *upstream):
                pass
        except (OSError, asyncio.IncompleteReadError):
            reset(writer)
        finally:
            writer.close()
            if upstream:
                upstream[1].close()

    async def _exchange(self, reader, writer, from_upstream, to_upstream):
        """One request and its answer; false when the connection is done with."""
        fault = self._random.choices(list(FAULTS), list(FAULTS.values()))[0]
        if fault == "reset_in_head":
            if not await reader.read(20):
                return False
            return self._reset(fault, writer)
        head = await _head(reader)
        if not head:
            return False
        length = _content_length(head)
        if fault == "reset_in_body" and length > 1:
            to_upstream.write(head + await reader.readexactly(length // 2))
            await to_upstream.drain()
            return self._reset(fault, writer, to_upstream)
        to_upstream.write(head + await reader.readexactly(length))
        answer = await _head(from_upstream)
        answer += await from_upstream.readexactly(_content_length(answer))
        if fault == "reset_when_read":
            return self._reset(fault, writer)
        if fault == "close_when_read":
            self.injected[fault] += 1
            return False
        if fault == "reset_in_answer":
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
            await asyncio.sleep(0.005)  # so that the half arrives: a reset discards what was not read
            return self._reset(fault, writer)
        writer.write(answer)
        await writer.drain()
        if fault in ("close_after", "reset_after"):
            await asyncio.sleep(self._random.choice((0, 0.002, 0.01)))
            if fault == "reset_after":
                return self._reset(fault, writer)
            self.injected[fault] += 1
            return False
        self.injected["none"] += 1
        return True

    def _reset(self, fault, *writers):
        """Counts the fault and resets these connections."""
        self.injected[fault] += 1
        for writer in writers:
            reset(writer)
        return False


def reset(writer):
    """Ends a connection with RST rather than FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _head(reader):
    """Everything up to the empty line; nothing when the peer has closed between two messages."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _content_length(head):
    """The length that a head announces; 0 without one."""
    lines = head.lower().split(b"\r\n")
    if any(line.startswith(b"transfer-encoding:") for line in lines):
        raise OSError("the relay does not read chunked bodies")
    return next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)


async def main():
    """Relays until SIGTERM, then prints the counts."""
    listen, upstream, seed = map(int, sys.argv[1:])
    relay = Relay(upstream, seed)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.start_server(relay.serve, "127.0.0.1", listen, backlog=1024)
    await ended.wait()
    print(json.dumps(relay.injected), flush=True)
    os._exit(0)  # without the cancelling of open connections, whose complaints would follow the counts


if __name__ == "__main__":
    asyncio.run(main())
