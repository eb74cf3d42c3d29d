"""Endpoints that speak HTTP/2: nginx and nghttpd with their limits of streams, their goodbyes and their reloads."""

import collections
import signal
import threading
import time

import services
from client import send_all

REQUESTS = 3_000
HTTP2 = {
    "protocol": "http2",
    "timeouts": {"connect": "5s", "request": "20s"},
    "bulkhead": {"max_in_flight": 1000, "max_connections": 4},
}
FEW_STREAMS = """
  server { listen @LISTEN@ http2; http2_max_concurrent_streams 3; keepalive_requests 50;
    location / { return 200 "fine"; } }
"""


def mixed(count):
    """Half of them are POSTs with bodies of different lengths, short enough to be kept (16 KiB)."""
    for number in range(count):
        body = b"p" * (number * 7 % 16_000) if number % 2 else b""
        yield str(number), ("POST" if number % 2 else "GET", f"/{number}", {}, body)


def statuses(answers):
    """How often each status came."""
    return collections.Counter(answer.status for answer in answers.values())


def test_no_request_is_lost_though_nginx_says_goodbye_after_every_fiftieth(mamparo, nginx):
    """Rules 15 and 67; faults 34 and 35. Nothing is retried by a policy, so a POST that was lost would show."""
    server = nginx(FEW_STREAMS)
    proxy = mamparo([server], HTTP2)
    answers = send_all(proxy.port, mixed(REQUESTS), connections=64)
    assert statuses(answers) == {200: REQUESTS}
    assert proxy.metric("mamparo_attempts_total") == REQUESTS
    assert proxy.metric("mamparo_connections_opened_total") >= REQUESTS / 50


def test_reloads_of_nginx_are_not_seen(mamparo, nginx):
    """Each reload ends every connection in order: fault 34."""
    server = nginx(FEW_STREAMS.replace("keepalive_requests 50", "keepalive_requests 100000"))
    proxy = mamparo([server], HTTP2)
    done = threading.Event()

    def reload():
        while not done.is_set():
            server.signal(signal.SIGHUP)
            time.sleep(0.2)

    reloads = threading.Thread(target=reload)
    reloads.start()
    try:
        answers = send_all(proxy.port, mixed(REQUESTS), connections=32)
    finally:
        done.set()
        reloads.join()
    assert statuses(answers) == {200: REQUESTS}
    assert proxy.metric("mamparo_connections_opened_total") > 1


def test_nghttpd_with_few_streams_at_a_time(mamparo, stack, tmp_path):
    """Fault 35; heads and bodies as another implementation frames them."""
    (tmp_path / "htdocs").mkdir()
    (tmp_path / "htdocs" / "large").write_bytes(b"0123456789" * 100_000)
    server = stack.enter_context(services.Nghttpd(tmp_path, tmp_path / "htdocs", streams=3))
    proxy = mamparo([server], HTTP2)
    wanted = [(str(number), ("GET", "/large" if number % 10 == 0 else "/none", {}, b"")) for number in range(500)]
    answers = send_all(proxy.port, wanted, connections=32)
    assert statuses(answers) == {200: 50, 404: 450}
    large = [answer.body for answer in answers.values() if answer.status == 200]
    assert all(body == b"0123456789" * 100_000 for body in large)
    assert proxy.metric("mamparo_connections_opened_total") <= 4
