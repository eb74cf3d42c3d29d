"""Clients that speak HTTP/2: those that people use, and those that mean harm. The frames of the latter are made by
hand."""

import asyncio
import filecmp
import json
import subprocess
import time

import hpack
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

from client import send
from programs import program_path, wait_until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ORIGIN = """
  server { listen @LISTEN@; root @ROOT@; default_type text/plain;
    location = /small { return 200 "small\\n"; } }
"""


def origin(nginx, public):
    """nginx with a small answer, and one of 8 MiB."""
    (public / "large").write_bytes(b"0123456789abcdef" * (512 * 1024))
    return nginx(ORIGIN.replace("@ROOT@", str(public)))


def curl(proxy, path, *arguments):
    """curl with prior knowledge; what it says of the transfer."""
    url = f"http://127.0.0.1:{proxy.port}{path}"
    done = subprocess.run(
        [program_path("curl"), "--http2-prior-knowledge", "-sS", "-w", "\n%{json}", *arguments, url],
        capture_output=True,
        check=True,
        timeout=60,
    )
    body, _, told = done.stdout.rpartition(b"\n")
    return body, json.loads(told)


def head(path="/small", method="GET", extra=()):
    """The header block of a request. A new encoder each time: no table to be kept."""
    pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "upstream.test")]
    return hpack.Encoder().encode(pseudo + list(extra), huffman=False)


def get(stream, path="/small"):
    """The frame of a whole GET."""
    return HeadersFrame(stream, head(path), flags=["END_HEADERS", "END_STREAM"]).serialize()


def hello(settings=None):
    """What a client begins with."""
    return PREFACE + SettingsFrame(0, settings=settings or {}).serialize()


async def frames(reader):
    """The frames that come, until the connection ends."""
    try:
        while True:
            frame, length = Frame.parse_frame_header(memoryview(await reader.readexactly(9)))
            frame.parse_body(memoryview(await reader.readexactly(length)))
            yield frame
    except (asyncio.IncompleteReadError, ConnectionError):
        return


async def goodbye(reader, seconds=20):
    """The code of the GOAWAY before the end of the connection."""
    code = None
    async with asyncio.timeout(seconds):
        async for frame in frames(reader):
            if type(frame).__name__ == "GoAwayFrame":
                code = frame.error_code
    return code


def still_serves(proxy):
    """Whether others are served as if nothing were."""
    begin = time.monotonic()
    answer = send(proxy.port, "GET", "/small")
    return answer.status == 200 and time.monotonic() - begin < 5


def test_curl_speaks_it(mamparo, nginx, public, tmp_path):
    proxy = mamparo([origin(nginx, public)], {"bulkhead": {}})
    body, told = curl(proxy, "/small")
    assert (body, told["http_version"], told["response_code"]) == (b"small\n", "2", 200)
    _, told = curl(proxy, "/large", "-o", str(tmp_path / "got"))
    assert told["http_version"] == "2"
    # Of 8 MiB that differ pytest would print every line.
    assert filecmp.cmp(tmp_path / "got", public / "large", shallow=False)
    _, told = curl(proxy, "/small", "-I")
    assert told["response_code"] == 200
    # Without prior knowledge curl asks for an upgrade, which is not granted: it goes on with HTTP/1.1.
    done = subprocess.run(
        [program_path("curl"), "--http2", "-sS", "-w", "%{http_version}", f"http://127.0.0.1:{proxy.port}/small"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"small\n1.1"
    assert proxy.metric("mamparo_bulkhead_in_flight") == 0


def test_a_large_upload_arrives_whole(mamparo, apps):
    (app,) = apps(1)
    proxy = mamparo([app])
    name = "large"
    done = subprocess.run(
        [program_path("curl"), "--http2-prior-knowledge", "-sS", "-H", "expect:", "--data-binary", "@-"]
        + [f"http://127.0.0.1:{proxy.port}/charge/{name}"],
        input=b"u" * 5_000_000,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == {"name": name, "bytes": 5_000_000}


def test_many_streams_under_load(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)], {"retry": {}, "bulkhead": {"max_in_flight": 2000}})
    done = subprocess.run(
        [program_path("h2load"), "-n", "20000", "-c", "20", "-m", "50", f"http://127.0.0.1:{proxy.port}/small"],
        capture_output=True,
        check=True,
        timeout=120,
        text=True,
    )
    assert "20000 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="2xx") == 20000
    assert proxy.metric("mamparo_limit_exceeded_total") == 0


def test_fault_027_a_hundred_thousand_streams_that_are_reset_at_once(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)], {"bulkhead": {}})

    async def attack(pause):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(hello())
        ending = asyncio.create_task(goodbye(reader))
        sent = 0
        try:
            for stream in range(1, 200_001, 2):
                writer.write(get(stream) + RstStreamFrame(stream, error_code=8).serialize())
                sent += 1
                if pause or sent % 100 == 0:
                    await writer.drain()
                    await asyncio.sleep(pause)
                if ending.done():
                    break
        except ConnectionError:
            pass
        code = await ending
        writer.close()
        return sent, code

    sent, code = asyncio.run(attack(0.001))
    assert (code, sent < 5000) == (11, True), (sent, code)
    _, code = asyncio.run(attack(0))
    assert code in (11, None)  # the reset of a connection that goes on sending may overtake it
    assert proxy.metric("mamparo_limit_exceeded_total", limit="resets") == 2
    assert proxy.metric("mamparo_attempts_total") < 5000
    assert "resets requests as soon as it has sent them" in proxy.output()
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 0, 5, "no seat is left behind")
    assert still_serves(proxy)


def test_fault_028_heads_that_never_end(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)])

    async def attack(bytes_):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(hello() + bytes_)
        return await goodbye(reader)

    pieces = b"".join(ContinuationFrame(1, b"\x00\x03x-a\x011" * 100).serialize() for _ in range(2000))
    assert asyncio.run(attack(HeadersFrame(1, head()).serialize() + pieces)) in (11, None)
    bomb = hpack.Encoder().encode([("x-bomb", "b" * 3900)], huffman=False) + b"\xbe" * 15_000
    block = head() + bomb
    frames_ = HeadersFrame(1, block[:16_384], flags=["END_STREAM"]).serialize()
    frames_ += ContinuationFrame(1, block[16_384:], flags=["END_HEADERS"]).serialize()
    assert asyncio.run(attack(frames_)) in (11, None)
    assert proxy.metric("mamparo_limit_exceeded_total", limit="header_block") == 2
    assert still_serves(proxy)


def test_fault_029_floods_of_small_frames(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)])
    floods = {
        "ping": PingFrame(0, b"\0" * 8).serialize(),
        "settings": SettingsFrame(0).serialize(),
        "priority": b"\0\0\5\2\0\0\0\0\1" + b"\0\0\0\0\20",
        "window": b"\0\0\4\10\0\0\0\0\0" + b"\0\0\0\1",
    }

    async def attack(frame):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(hello() + frame * 100_000)
        return await goodbye(reader)

    for name, frame in floods.items():
        assert asyncio.run(attack(frame)) in (11, None), name
    assert proxy.metric("mamparo_limit_exceeded_total", limit="control_frames") == len(floods)
    assert still_serves(proxy)


def test_fault_030_thousand_streams_whose_windows_never_open(mamparo, nginx, public):
    """Their memory is bounded, and `idle` ends them."""
    policies = {"bulkhead": {"max_in_flight": 2000}, "timeouts": {"idle": "3s"}}
    proxy = mamparo([origin(nginx, public)], policies)
    assert still_serves(proxy)
    before = proxy.resident_bytes()

    async def stall():
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(hello({SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
        writer.write(b"".join(get(stream, "/large") for stream in range(1, 200, 2)))
        reset = 0
        async with asyncio.timeout(40):
            async for frame in frames(reader):
                reset += isinstance(frame, RstStreamFrame)
                if reset == 100:
                    break
        writer.close()
        return reset

    async def all_of_them():
        stalled = asyncio.gather(*(stall() for _ in range(10)))
        await asyncio.sleep(2)
        held = proxy.resident_bytes()
        return held, await stalled

    held, reset = asyncio.run(all_of_them())
    assert reset == [100] * 10
    # 8 GB were asked for.
    assert held - before < 400_000_000, held - before
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 0, 5, "no seat is left behind")
    assert still_serves(proxy)


def test_fault_031_and_033_frames_and_heads_against_the_protocol(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)])

    async def say(bytes_):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(hello() + bytes_)
        came = []
        try:
            async with asyncio.timeout(2):
                async for frame in frames(reader):
                    came.append(frame)
                    if isinstance(frame, RstStreamFrame):
                        break
        except TimeoutError:
            pass
        writer.close()
        return came

    def heads(*extra):
        return HeadersFrame(1, head(extra=extra), flags=["END_HEADERS", "END_STREAM"]).serialize()

    wrong = {
        "connection": heads(("connection", "close")),
        "te": heads(("te", "gzip")),
        "smuggled": heads(("x", "a\r\ntransfer-encoding: chunked")),
        "upper": HeadersFrame(1, head() + b"\0\4X-Up\1" + b"1", flags=["END_HEADERS", "END_STREAM"]).serialize(),
        "length": heads(("content-length", "5")),
        "data on an idle stream": DataFrame(5, b"x").serialize(),
        "too large": DataFrame(1, b"x" * 16_385).serialize(),
    }
    for name, bytes_ in wrong.items():
        kinds = {type(frame).__name__ for frame in asyncio.run(say(bytes_))}
        assert kinds & {"RstStreamFrame", "GoAwayFrame"}, name
        assert "HeadersFrame" not in kinds, name
    assert proxy.metric("mamparo_failures_total", reason="bad_request") == len(wrong)
    assert proxy.metric("mamparo_attempts_total") == 0
    assert still_serves(proxy)


def test_fault_038_two_thousand_slow_heads_are_cut_and_the_rest_is_served(mamparo, nginx, public):
    proxy = mamparo([origin(nginx, public)], listener={"timeouts": {"header": "2s", "idle": "60s"}})

    async def drip(second):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(hello() if second else b"GET /")
            for byte in get(1) if second else b"a" * 40:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.4)
                if reader.at_eof() or writer.transport.is_closing():
                    return
            await goodbye(reader)
        except ConnectionError:
            pass

    async def all_of_them():
        dripping = asyncio.gather(*(drip(number % 2) for number in range(2000)))
        await asyncio.sleep(1)
        begin = time.monotonic()
        answer = await asyncio.to_thread(send, proxy.port, "GET", "/small")
        served = time.monotonic() - begin
        await dripping
        return answer.status, served

    status, served = asyncio.run(all_of_them())
    assert status == 200 and served < 5
    assert proxy.metric("mamparo_failures_total", reason="header_timeout") == 2000
    wait_until(lambda: proxy.status()["listeners"][0]["connections"] == 0, 10, "no connection is left behind")


def test_fault_042_idle_connections_up_to_the_limit_and_no_busy_loop(mamparo, nginx, public):
    limits = {"limits": {"connections": 1500}, "timeouts": {"header": "30s", "idle": "60s"}}
    proxy = mamparo([origin(nginx, public)], listener=limits, runtime={"max_connections": 5000})

    async def idle():
        kept = []
        for number in range(1500):
            kept.append(await asyncio.open_connection("127.0.0.1", proxy.port))
            if number % 2:
                kept[-1][1].write(hello())
        while proxy.status()["listeners"][0]["connections"] < 1500:
            await asyncio.sleep(0.05)
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await reader.read() == b""
            writer.close()
        begin = proxy.cpu_seconds()
        await asyncio.sleep(2)
        used = proxy.cpu_seconds() - begin
        for _, writer in kept:
            writer.close()
        return used

    assert asyncio.run(idle()) < 0.5
    assert proxy.metric("mamparo_limit_exceeded_total", limit="connections") == 20
    wait_until(lambda: proxy.status()["listeners"][0]["connections"] == 0, 10, "places are free again")
    assert still_serves(proxy)
