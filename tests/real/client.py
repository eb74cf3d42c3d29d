"""An HTTP/1.1 client of a few lines that never repeats a request and knows what became of each.

Libraries retry, pool and redirect on their own account; a test that counts requests must not depend on that.
"""

import asyncio
import dataclasses
import time


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. `status` 0: no complete answer; `error` says why."""

    status: int
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    seconds: float = 0.0


class Connection:
    """One connection, made when needed and made again after it ended."""

    def __init__(self, port, timeout=30.0):
        self._port = port
        self._timeout = timeout
        self._streams = None

    async def send(self, method, path, headers=None, body=b""):
        """One request, sent exactly once."""
        begin = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._exchange(request(method, path, headers, body))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            answer = Answer(0, error=repr(error))
        return dataclasses.replace(answer, seconds=time.monotonic() - begin)

    async def _exchange(self, data):
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(data)
        answer = await read_answer(reader)
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self):
        """Ends the connection; the next request makes another."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


def request(method, path, headers=None, body=b""):
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: upstream.test"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_head(reader):
    """Status and headers of an answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}


async def read_answer(reader, head=read_head):
    """A whole answer, its head read by `head`; a body that breaks off is an EOFError."""
    status, headers = await head(reader)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(status, headers, body)


async def _each(port, requests, connections, timeout):
    answers = {}

    async def work():
        connection = Connection(port, timeout)
        for name, args in requests:
            answers[name] = await connection.send(*args)
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return answers


def send_all(port, requests, connections=16, timeout=30.0):
    """Sends every `(name, (method, path, headers, body))` once over so many connections: answers by name. An iterator
    is drawn from as answers come, so that a generator can end the load by time."""
    return asyncio.run(_each(port, iter(requests), connections, timeout))


def send(port, method, path, headers=None, body=b"", timeout=30.0):
    """One request on a connection of its own."""
    return send_all(port, [("", (method, path, headers, body))], 1, timeout)[""]


def gets(path, seconds):
    """GETs until the time is over: `path` with a running number in the place of `{}`."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield number, ("GET", path.format(number), None, b"")
        number += 1
