"""An origin that holds its answers until so many requests are there: `holding.py COUNT PORT…`.

Only those for `/held` are held. All of them being in flight at once, a proxy needs a connection to the origin for each,
and has them idle when the answers have come.
"""

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + b"." * 63 + b"\n"


class Origin(asyncio.Protocol):
    """One connection."""

    waiting: list[asyncio.Transport] = []
    count = 0

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""

    def data_received(self, data):
        self.received += data
        if not self.received.endswith(b"\r\n\r\n"):
            return
        held, self.received = self.received.startswith(b"GET /held "), b""
        if not held or len(self.waiting) == self.count:
            self.transport.write(ANSWER)
            return
        self.waiting.append(self.transport)
        if len(self.waiting) == self.count:
            for transport in self.waiting:
                transport.write(ANSWER)


async def main():
    """Serves until it is ended."""
    Origin.count, *ports = map(int, sys.argv[1:])
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Origin, "127.0.0.1", port, backlog=4096) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main())
