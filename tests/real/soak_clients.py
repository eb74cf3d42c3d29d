"""The clients of the soak: well-behaved ones, slow ones, and ones that leave at every stage.

What they send is counted in two ways. A request is `sure` when the head of an answer came: the proxy must have counted
it. It is `maybe` when some of it was sent and no head came: whether the proxy saw it before the connection ended is a
race that nobody can decide from outside.
"""

import asyncio
import collections
import contextlib
import itertools

from client import read_answer, read_head, request
from relay import reset

PATIENCE = 30.0


class Tally:
    """What was sent and what came of it."""

    def __init__(self):
        self.sure = 0
        self.maybe = 0
        self.statuses = collections.Counter()
        self.charged = set()
        self.names = itertools.count()

    def head(self, status):
        """The head of an answer came."""
        self.sure += 1
        self.statuses[status] += 1


class Client:
    """One client that does its kind of thing over and over until it is told to stop."""

    def __init__(self, port, draw, tally, stop):
        self.port = port
        self.draw = draw
        self.tally = tally
        self.stop = stop

    async def run(self):
        """Each turn is a connection of its own; an end of the connection ends the turn."""
        while not self.stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.turn(reader, writer)
            except (OSError, EOFError):
                pass
            finally:
                writer.close()

    async def turn(self, reader, writer):
        """What it does with a connection."""
        raise NotImplementedError

    async def send(self, writer, data):
        """Writes a request whose answer has not come yet."""
        self.tally.maybe += 1
        writer.write(data)
        await writer.drain()

    async def head(self, reader):
        """Reads the head of the answer to what was sent."""
        status, headers = await read_head(reader)
        self.tally.maybe -= 1
        self.tally.head(status)
        return status, headers

    async def answer(self, reader):
        """Reads a whole answer to what was sent."""
        return await read_answer(reader, self.head)


class KeptAlive(Client):
    """Many requests on one connection."""

    async def turn(self, reader, writer):
        for _ in range(self.draw.randrange(1, 200)):
            path = self.draw.choice(
                ("/get/1", "/get/1", "/get/2", "/sleep/20", "/status/503", "/status/404", "/break/2")
            )
            await self.send(writer, request("GET", path))
            answer = await self.answer(reader)
            if self.stop.is_set() or answer.headers.get("connection") == "close":
                return


class Poster(Client):
    """POSTs through the relays that reset connections; what is answered with 200 must have been executed once."""

    async def turn(self, reader, writer):
        for _ in range(self.draw.randrange(1, 50)):
            name = f"charge-{next(self.tally.names)}"
            body = b"p" * self.draw.randrange(1, 100_000)
            await self.send(writer, request("POST", f"/charge/{name}", None, body))
            answer = await self.answer(reader)
            if answer.status == 200 and "x-mamparo-fallback" not in answer.headers:
                self.tally.charged.add(name)
            if self.stop.is_set() or answer.headers.get("connection") == "close":
                return


class Leaver(Client):
    """Leaves at a stage drawn at random, with FIN or RST."""

    async def turn(self, reader, writer):
        stage = self.draw.choice(("connected", "in_head", "in_body", "sent", "waiting", "head", "body"))
        post = request("POST", "/upload", None, b"u" * 50_000)
        if stage == "in_head":
            await self.send(writer, post[: self.draw.randrange(1, 30)])
        elif stage == "in_body":
            await self.send(writer, post[: self.draw.randrange(100, len(post))])
        elif stage == "sent":
            await self.send(writer, request("GET", "/sleep/300"))
        elif stage == "waiting":
            await self.send(writer, request("GET", "/sleep/1000"))
            await asyncio.sleep(self.draw.random() * 0.2)
        elif stage in ("head", "body"):
            await self.send(writer, request("GET", "/stream/64?size=16384&pause_ms=5"))
            await self.head(reader)
            if stage == "body":
                await reader.read(self.draw.randrange(1, 200_000))
        await asyncio.sleep(self.draw.random() * 0.02)
        if self.draw.random() < 0.5:
            reset(writer)


class SlowReader(Client):
    """Takes a big answer in sips, so that the proxy has to hold the upstream back."""

    async def turn(self, reader, writer):
        await self.send(writer, request("GET", "/stream/64?size=65536"))
        await self.head(reader)
        while not self.stop.is_set() and await reader.read(32768):
            await asyncio.sleep(0.02)


class BigReader(Client):
    """Takes a big answer as fast as it comes, and checks that it is whole."""

    async def turn(self, reader, writer):
        await self.send(writer, request("GET", "/stream/32?size=131072"))
        answer = await self.answer(reader)
        if answer.status == 200 and "x-mamparo-fallback" not in answer.headers:
            assert len(answer.body) == 32 * 131072, len(answer.body)


class Uploader(Client):
    """Sends a body in chunks with pauses."""

    async def turn(self, reader, writer):
        await self.send(writer, request("POST", "/upload", {"transfer-encoding": "chunked"}))
        sending = asyncio.create_task(self._body(writer))
        try:
            await self.answer(reader)
        finally:
            sending.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await sending

    async def _body(self, writer):
        for _ in range(20):
            writer.write(b"8000\r\n" + b"u" * 0x8000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")


class Idler(Client):
    """Connects, and says nothing."""

    async def turn(self, reader, writer):
        await asyncio.wait(
            [asyncio.create_task(self.stop.wait()), asyncio.create_task(reader.read(1))],
            timeout=self.draw.randrange(1, 20),
            return_when=asyncio.FIRST_COMPLETED,
        )


KINDS = {KeptAlive: 16, Poster: 8, Leaver: 8, SlowReader: 8, BigReader: 2, Uploader: 4, Idler: 8}
