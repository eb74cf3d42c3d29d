"""Tunnels and forward proxying as real clients do them: websockets, curl as a proxy's client, uvicorn on a socket."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import websockets

from programs import Program, free_port, mamparo_binary, program_path, wait_until
from services import HERE, config_of


@pytest.fixture
def echo():
    """A WebSocket server that answers with what it hears, and in bytes of any number that is asked for."""
    loop = asyncio.new_event_loop()
    port = free_port()
    ended = asyncio.Event()

    async def talk(socket):
        async for message in socket:
            if message.startswith("bytes:"):
                await socket.send(b"x" * int(message.removeprefix("bytes:")))
            else:
                await socket.send(message)

    async def serve():
        choose = {"select_subprotocol": lambda _, offered: "chat" if "chat" in offered else None}
        async with websockets.serve(talk, "127.0.0.1", port, max_size=None, **choose):
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    yield type("Echo", (), {"port": port})
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()


def quiet(proxy):
    """Waits until nothing is left of tunnels: no seat, no connection in use, no client."""

    def left():
        status = proxy.status()
        upstream = status["upstreams"][0]
        clients = sum(one["connections"] for one in status["listeners"])
        return upstream["bulkhead"]["in_flight"] + upstream["connections"]["active"] + clients == 0

    wait_until(left, 5, "nothing is left")


def test_websockets_speak_through(mamparo, echo):
    """Text, large and small messages, pings, a subprotocol, and the closing handshake (rule 33)."""
    proxy = mamparo([echo], {"bulkhead": {}, "retry": {}, "timeouts": {"request": "1s", "idle": "5s"}})

    async def speak():
        async with websockets.connect(
            f"ws://127.0.0.1:{proxy.port}/chat", subprotocols=["chat"], max_size=None
        ) as socket:
            assert socket.subprotocol == "chat"
            for message in ("hello", "x" * 70_000, "ü"):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
            # Longer than the request's timeout: in a tunnel it does not count.
            await asyncio.sleep(1.2)
            await socket.send("bytes:5000000")
            assert len(await socket.recv()) == 5_000_000
        assert socket.close_code == 1000

    asyncio.run(speak())
    quiet(proxy)
    assert proxy.metric("mamparo_requests_total", code="1xx") == 1


def test_a_hundred_websockets_leave_nothing_behind(mamparo, echo):
    """However they end: in order, or by a client that is gone."""
    proxy = mamparo([echo], {"bulkhead": {"max_in_flight": 100}})
    url = f"ws://127.0.0.1:{proxy.port}/"

    async def speak(number):
        socket = await websockets.connect(url)
        await socket.send(str(number))
        assert await socket.recv() == str(number)
        if number % 2:
            await socket.close()
        else:
            socket.transport.abort()

    async def all_of_them():
        await asyncio.gather(*(speak(number) for number in range(100)))

    asyncio.run(all_of_them())
    quiet(proxy)
    assert proxy.metric("mamparo_requests_total") == 100


def test_a_websocket_is_drained(mamparo, echo):
    """Fault 69: at SIGTERM it speaks on until it closes, or the drain is over."""
    proxy = mamparo([echo], {"bulkhead": {}}, runtime={"drain": "1500ms"})

    async def speak():
        async with websockets.connect(f"ws://127.0.0.1:{proxy.port}/") as socket:
            proxy.signal(signal.SIGTERM)
            begin = time.monotonic()
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await socket.send("still here")
                    assert await socket.recv() == "still here"
                    await asyncio.sleep(0.05)
            return time.monotonic() - begin

    assert 1.2 < asyncio.run(speak()) < 5
    assert proxy.wait(10) == 0


def curl(*arguments):
    """What curl prints and how it ends."""
    command = [program_path("curl"), "-sS", "--max-time", "20", *arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=30)


@pytest.fixture
def forward(stack, tmp_path, apps):
    """mamparo as a forward proxy with one host that it knows, before an application."""
    app = apps(1)[0]
    port, admin = free_port(), free_port()
    config = config_of(port, admin, [app.port], {"bulkhead": {}, "retry": {}})
    route = {"name": "app", "match": {"host": "app.internal"}, "upstream": "app"}
    config["listeners"]["outbound"] = {"address": f"127.0.0.1:{port}", "routes": [route]}
    path = tmp_path / "mamparo.yaml"
    path.write_text(json.dumps(config))
    program = Program([mamparo_binary("debug", "release"), "run", "--config", path], tmp_path / "mamparo.log")
    stack.enter_context(program).answers(f"http://127.0.0.1:{admin}/readyz")
    program.port = port
    return program


def test_a_client_is_only_told_of_the_proxy(forward):
    """`HTTP_PROXY` and `curl -x`: routed by the URL's host, and only where the configuration says so."""
    proxy = f"http://127.0.0.1:{forward.port}"
    done = curl("-x", proxy, "http://app.internal/get/1")
    assert done.returncode == 0 and b"1" in done.stdout
    done = curl("-x", proxy, "-o", "/dev/null", "-w", "%{http_code}", "http://elsewhere.internal/")
    assert done.stdout == b"404"


def test_connect_is_a_tunnel_for_curl_and_proxytunnel(forward):
    """`curl -p` asks for CONNECT, and so does proxytunnel; another host gets 405."""
    proxy = f"http://127.0.0.1:{forward.port}"
    done = curl("-p", "-x", proxy, "http://app.internal/get/2", "http://app.internal/get/3")
    assert done.returncode == 0 and b"2" in done.stdout and b"3" in done.stdout
    done = curl("-p", "-x", proxy, "-w", "%{http_connect}", "http://elsewhere.internal/")
    assert done.stdout == b"405"
    tunnel = [program_path("proxytunnel"), "-q", "-p", f"127.0.0.1:{forward.port}", "-d", "app.internal:80"]
    request = b"GET /get/4 HTTP/1.1\r\nhost: app.internal\r\nconnection: close\r\n\r\n"
    # Its end of input would be the end of the tunnel.
    with subprocess.Popen(tunnel, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as client:
        client.stdin.write(request)
        assert b"200 OK" in client.stdout.readline()
        client.kill()


def test_sockets_in_the_file_system_among_real_programs(stack, tmp_path):
    """curl --unix-socket before mamparo, uvicorn --uds behind it; both files are gone at the end."""
    app, front, admin = (tmp_path / name for name in ("app.sock", "front.sock", "admin.sock"))
    server = [sys.executable, "-m", "uvicorn", "upstream:app", "--uds", app, "--no-access-log"]
    env = {"EXECUTIONS": str(tmp_path / "executions")}
    stack.enter_context(Program(server, tmp_path / "app.log", env=env, cwd=HERE)).ready(app.exists)
    config = {
        "admin": {"address": f"unix:{admin}"},
        "access_log": {"destination": "off"},
        "listeners": {"outbound": {"address": f"unix:{front}", "upstream": "app"}},
        "upstreams": {"app": {"endpoints": [f"unix:{app}"], "circuit_breaker": {}}},
    }
    path = tmp_path / "mamparo.yaml"
    path.write_text(json.dumps(config))
    command = [mamparo_binary("debug", "release"), "run", "--config", path]
    proxy = stack.enter_context(Program(command, tmp_path / "mamparo.log")).ready(front.exists)
    done = curl("--unix-socket", str(front), "http://localhost/get/5")
    assert done.returncode == 0 and b"5" in done.stdout, (done, proxy.output())
    status = json.loads(curl("--unix-socket", str(admin), "http://localhost/api/v1/status").stdout)
    assert status["upstreams"][0]["endpoints"][0]["address"] == f"unix:{app}"
    # One that was killed leaves its sockets behind; the next one takes their place.
    proxy.kill()
    assert front.exists() and admin.exists()
    proxy.start().ready(lambda: curl("--unix-socket", str(front), "http://localhost/get/6").returncode == 0)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(10) == 0
    assert not front.exists() and not admin.exists()
