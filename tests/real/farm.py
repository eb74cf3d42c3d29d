"""Many small HTTP servers in one process: ports open and close as its control port is told.

A port that closes in order finishes what it has; one that is dropped resets every connection at once.
"""

import asyncio
import json
import sys

BODY = b'{"farm": true}'


class Port:
    """One listening port with its connections."""

    def __init__(self):
        self._server = None
        self._idle = set()
        self._all = set()
        self._closing = False

    async def open(self, host, port):
        """Listens from now on."""
        self._server = await asyncio.start_server(self._serve, host, port, backlog=512)

    def close(self):
        """Takes no more connections, and ends those it has when their request is answered."""
        self._closing = True
        self._server.close()
        for writer in list(self._idle):
            writer.close()

    def drop(self):
        """Ends everything at once, as a process that is killed does."""
        self._server.close()
        for writer in list(self._all):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._all.add(writer)
        try:
            while not self._closing:
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                path = head.split(b" ", 2)[1]
                if path.startswith(b"/sleep/"):
                    await asyncio.sleep(int(path[7:].split(b"?")[0]) / 1000)
                last = b"connection: close\r\n" if self._closing else b""
                writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (last, len(BODY), BODY))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        finally:
            self._idle.discard(writer)
            self._all.discard(writer)
            writer.close()


class Farm:
    """The ports, and who is told to change them."""

    def __init__(self):
        self._ports = {}

    async def control(self, reader, writer):
        """One JSON line in: what to do and to which ports; one line out when it is done."""
        while line := await reader.readline():
            order = json.loads(line)
            for number in order["ports"]:
                if order["do"] == "open":
                    self._ports[number] = Port()
                    await self._ports[number].open(order.get("host", "127.0.0.1"), number)
                else:
                    getattr(self._ports.pop(number), order["do"])()
            writer.write(b"done\n")
            await writer.drain()
        writer.close()


async def main():
    """Serves until it is killed."""
    server = await asyncio.start_server(Farm().control, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
