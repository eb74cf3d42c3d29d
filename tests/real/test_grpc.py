"""gRPC as its own library speaks it: the four shapes, codes, deadlines, retries, streams and restarts."""

import concurrent.futures
import json
import queue
import signal
import threading
import time

import grpc
import pytest

from grpc_service import SIZE
from programs import wait_until
from services import Calls

Code = grpc.StatusCode
RETRY = {
    "on": ["unavailable", "connect_failure", "reset"],
    "methods": "all",
    "max_attempts": 3,
    "backoff": {"base": "5ms", "max": "50ms"},
    "budget": {"ratio": "100%", "min_per_second": 1000},
}


@pytest.fixture
def calls(stack, tmp_path):
    """Starts so many instances of the service."""
    return lambda count: [stack.enter_context(Calls(tmp_path)) for _ in range(count)]


@pytest.fixture
def client(stack, mamparo):
    """Starts mamparo before these services, with these policies, and a client before it."""

    def start(services, policies=None, options=(), **rest):
        proxy = mamparo(services, {"protocol": "http2"} | (policies or {}), **rest)
        return proxy, stack.enter_context(Client(proxy.port, options))

    return start


class Client:
    """A channel with the service's methods; messages are bytes."""

    def __init__(self, port, options=()):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[*SIZE, *options])
        self.echo = self.channel.unary_unary("/t.T/Echo")
        self.down = self.channel.unary_stream("/t.T/Down")
        self.add = self.channel.stream_unary("/t.T/Add")
        self.chat = self.channel.stream_stream("/t.T/Chat")
        self._do = self.channel.unary_unary("/t.T/Do")
        self._counted = self.channel.unary_unary("/t.T/Counted")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def do(self, timeout=10, metadata=(), **asked):
        """What the service answers."""
        return json.loads(self._do(json.dumps(asked).encode(), timeout=timeout, metadata=metadata))

    def stream(self, timeout=10, **asked):
        """The service's stream."""
        return self.down(json.dumps(asked).encode(), timeout=timeout)

    def counted(self, name):
        """How often the service counted it."""
        return int(self._counted(name.encode(), timeout=5))


def failed(call):
    """How a call ends that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def reason(error):
    """Our reason in an answer of ours: it is trailers-only, and they all are trailing metadata then."""
    return dict(error.trailing_metadata() or ()).get("x-mamparo-reason")


def test_all_four_shapes(calls, client):
    proxy, to = client(calls(2))
    assert to.echo(b"") == b""
    assert to.echo(b"message") == b"message"
    assert list(to.stream(messages=50)) == [str(number).encode() for number in range(50)]
    assert json.loads(to.add(iter([b"ab"] * 1000))) == [1000, 2000]
    assert list(to.chat(iter([b"ab", b"cd"]))) == [b"ba", b"dc"]
    assert list(to.chat(iter([]))) == []
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="2xx") == 6


def test_two_sides_of_a_stream_that_wait_for_each_other(calls, client):
    """Nothing is buffered: each message is answered before the next one is sent."""
    _, to = client(calls(1), {"retry": RETRY, "timeouts": {"try": "5s"}})
    line = queue.Queue()
    answers = to.chat(iter(line.get, None), timeout=20)
    for number in range(200):
        message = f"ping {number}".encode()
        line.put(message)
        assert next(answers) == message[::-1]
    line.put(None)
    assert list(answers) == []


def test_many_streams_on_one_connection_beside_each_other(calls, client):
    proxy, to = client(calls(2))
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        slow = [pool.submit(lambda: len(list(to.stream(messages=20, pause=0.02)))) for _ in range(25)]
        quick = [pool.submit(to.echo, str(number).encode()) for number in range(500)]
        assert [call.result() for call in slow] == [20] * 25
        assert [call.result() for call in quick] == [str(number).encode() for number in range(500)]
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="2xx") == 525


def test_messages_of_ten_mebibytes(calls, client):
    _, to = client(calls(1), {"retry": RETRY})
    message = bytes(range(256)) * (40 * 1024)
    assert to.echo(message, timeout=30) == message
    assert json.loads(to.add(iter([message] * 3), timeout=30)) == [3, 3 * len(message)]


@pytest.mark.parametrize("early", [False, True])
def test_a_code_is_tried_again_wherever_it_stands(calls, client, early):
    """Rules 12 and 13: in the head of an answer without more, and in the trailers."""
    proxy, to = client(calls(1), {"retry": RETRY})
    done = to.do(key="k", times=2, code=14, early=early)
    assert done["made"] == 3
    assert done["metadata"]["grpc-previous-rpc-attempts"] == "2"
    assert proxy.metric("mamparo_retries_total", **{"class": "transient"}) == 2
    assert proxy.metric("mamparo_attempts_total", outcome="failure") == 2
    error = failed(lambda: to.do(key="other", times=9, code=14, early=early, details="ü 100%"))
    assert (error.code(), error.details(), reason(error)) == (Code.UNAVAILABLE, "ü 100%", None)
    assert to.counted("other") == 3
    assert failed(lambda: to.do(key="third", times=9, code=5, early=early)).code() == Code.NOT_FOUND
    assert to.counted("third") == 1
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="4xx") == 1
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="5xx") == 1


def test_from_the_first_message_on_nothing_is_tried_again(calls, client):
    """Rule 11; the code in the trailers is a failure all the same."""
    proxy, to = client(calls(1), {"retry": RETRY, "circuit_breaker": {}})
    stream = to.stream(messages=3, code=14)
    got = []
    error = failed(lambda: got.extend(stream))
    assert error.code() == Code.UNAVAILABLE
    assert proxy.metric("mamparo_retries_total") == 0
    wait_until(lambda: proxy.metric("mamparo_attempts_total", outcome="failure") == 1, 5, "it is counted")


def test_pushback(calls, client):
    """Rule 25."""
    proxy, to = client(calls(1), {"retry": RETRY})
    begin = time.monotonic()
    assert to.do(key="a", times=1, code=14, pushback="400")["made"] == 2
    assert time.monotonic() - begin >= 0.4
    assert failed(lambda: to.do(key="b", times=1, code=14, pushback="-1")).code() == Code.UNAVAILABLE
    assert to.counted("b") == 1
    assert proxy.metric("mamparo_retries_denied_total", why="deadline") == 1


def test_deadlines(calls, client):
    """Rule 6: the client's time shortens ours, and the service is told what is left of it."""
    proxy, to = client(calls(1), {"timeouts": {"request": "700ms"}})
    left = to.do(timeout=5)["left"]
    assert 4 < left <= 5
    assert to.do(timeout=None)["left"] is None

    begin = time.monotonic()
    error = failed(lambda: to.do(timeout=0.3, key="slow", sleep=3))
    assert error.code() == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - begin < 0.6

    error = failed(lambda: to.do(timeout=5, sleep=3))
    assert (error.code(), reason(error)) == (Code.DEADLINE_EXCEEDED, "request_timeout")
    assert 0.65 < time.monotonic() - begin < 2
    assert "700ms" in error.details()
    # a stream goes on for longer than that: it is the head that has to come in time
    assert len(list(to.stream(messages=5, pause=0.3))) == 5
    assert proxy.metric("mamparo_failures_total", reason="request_timeout") >= 1


def test_a_client_that_cancels(calls, client):
    """Fault 41: the service hears of it, and nobody is blamed."""
    proxy, to = client(calls(1), {"circuit_breaker": {}, "bulkhead": {}})
    streams = [to.stream(messages=10_000, pause=0.01) for _ in range(10)]
    for stream in streams:
        assert next(stream) == b"0"
    assert proxy.metric("mamparo_bulkhead_in_flight") == 10
    for stream in streams:
        stream.cancel()
    wait_until(lambda: to.counted("ended") >= 10, 5, "the service hears of it")
    wait_until(lambda: proxy.metric("mamparo_requests_total", outcome="client_gone") == 10, 5, "it is counted")
    assert proxy.metric("mamparo_bulkhead_in_flight") == 0
    assert proxy.metric("mamparo_attempts_total", outcome="failure") == 0
    # and while nothing has been answered yet
    waiting = [to._do.future(json.dumps({"sleep": 2}).encode()) for _ in range(5)]
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 5, 5, "they are under way")
    for call in waiting:
        call.cancel()
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 0, 1, "the seats are free at once")


def test_refusals_in_grpcs_own_words(calls, client):
    """Rule 73."""
    _, to = client(calls(1), {"rate_limit": {"per_second": 0.1, "burst": 1}})
    assert to.echo(b"a") == b"a"
    error = failed(lambda: to.echo(b"a"))
    assert (error.code(), reason(error)) == (Code.RESOURCE_EXHAUSTED, "rate_limited")
    assert error.details().startswith("The rate limit of upstream 'app' is reached")
    streams = [
        lambda: list(to.stream(messages=1)),
        lambda: to.add(iter([b"a"])),
        lambda: list(to.chat(iter([b"a"]))),
    ]
    for stream in streams:
        assert failed(stream).code() == Code.RESOURCE_EXHAUSTED


def test_the_code_of_each_refusal(calls, client):
    service = calls(1)[0]
    proxy, to = client([service], {"bulkhead": {"max_in_flight": 1}})
    stream = to.stream(messages=1000, pause=0.05)
    next(stream)
    error = failed(lambda: to.echo(b"a"))
    assert (error.code(), reason(error)) == (Code.UNAVAILABLE, "too_many_in_flight")
    stream.cancel()
    config = json.loads(proxy.config.read_text())
    config["listeners"]["outbound"] = {
        "address": config["listeners"]["outbound"]["address"],
        "routes": [{"match": {"path": "/t.T/Do"}, "upstream": "app"}],
    }
    proxy.write(config)
    wait_until(lambda: no_route(to), 10, "the route is gone")
    service.kill()
    error = failed(lambda: to.do())
    assert error.code() == Code.UNAVAILABLE
    assert reason(error) in ("connect_failure", "reset")


def no_route(to):
    """Whether no route leads to the method any more."""
    try:
        to.echo(b"a", timeout=5)
    except grpc.RpcError as error:
        return error.code() == Code.UNIMPLEMENTED and reason(error) == "no_route"
    return False


def test_a_breaker_opens_by_the_codes_that_mean_a_broken_service(calls, client):
    """Rule 51."""
    proxy, to = client(calls(1), {"circuit_breaker": {"consecutive_failures": 3, "open_for": "60s"}})
    for code in [3, 5, 6, 7, 9, 10, 11, 12, 16, 1, 8]:
        for _ in range(3):
            failed(lambda code=code: to.do(times=99, code=code))
    assert proxy.metric("mamparo_circuit_breaker_state") == 0
    for early in [False, True, False]:
        failed(lambda early=early: to.do(times=99, code=14, early=early))
    error = failed(lambda: to.echo(b"a"))
    assert (error.code(), reason(error)) == (Code.UNAVAILABLE, "breaker_open")
    assert "3 consecutive failures" in error.details()


def test_a_fallback_answers_with_a_message(client, calls):
    fallback = [
        {"on": ["not_found"], "respond": {"grpc_status": "aborted", "body": "Not here."}},
        {"on": "any", "respond": {"status": 503, "body": "for others"}},
        {"on": "any", "respond": {"grpc_status": "ok", "headers": {"x-from": "here"}, "body": "instead"}},
    ]
    service = calls(1)[0]
    proxy, to = client([service], {"fallback": fallback})
    error = failed(lambda: to.do(times=1, code=5))
    assert (error.code(), error.details()) == (Code.ABORTED, "Not here.")
    service.kill()
    answer, call = to.echo.with_call(b"a")
    assert answer == b"instead"
    assert dict(call.initial_metadata())["x-mamparo-fallback"] == "respond"
    assert list(to.stream(messages=3)) == [b"instead"]
    assert proxy.metric("mamparo_requests_total", outcome="fallback") == 3


def test_a_service_that_is_killed_in_a_stream_is_unavailable_after_all_messages(calls, client):
    """Fault 47: never a clean end, and no bare reset where the client can be told more."""
    service = calls(1)[0]
    _, to = client([service], {"circuit_breaker": {}})
    stream = to.stream(messages=10_000, pause=0.05)
    got = [next(stream), next(stream)]
    service.signal(signal.SIGKILL)
    error = failed(lambda: got.extend(stream))
    assert error.code() == Code.UNAVAILABLE
    assert got[:2] == [b"0", b"1"]


def test_keep_alive_pings_of_a_quiet_client_are_answered(calls, client):
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 500),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    _, to = client(calls(1), options=options)
    answers = to.stream(messages=2, pause=5, timeout=20)
    assert list(answers) == [b"0", b"1"]


def test_no_call_is_lost_while_services_restart(calls, client):
    """Faults 34 and 52: a server that stops says GOAWAY, and finishes what it has begun."""
    services = calls(2)
    # a call that comes while this server stops may be met with CANCELLED
    retry = RETRY | {"on": [*RETRY["on"], "cancelled"]}
    proxy, to = client(services, {"retry": retry, "timeouts": {"connect": "1s", "try": "5s", "request": "10s"}})
    stop = threading.Event()
    lost, made = [], []

    def load():
        while not stop.is_set():
            try:
                made.append(to.do(sleep=0.005, timeout=10)["instance"])
            except grpc.RpcError as error:
                lost.append((error.code(), error.details()))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()

    def answers(service):
        wait_until(lambda: service.pid in made, 30, "each instance answers, before and after its restart")

    try:
        for service in [services[0], services[1], services[0]]:
            answers(service)
            time.sleep(0.5)
            service.restart(signal.SIGTERM)
        answers(services[0])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not lost
    assert len(made) > 200
    assert len(set(made)) == 5
    assert proxy.metric("mamparo_requests_total", outcome="upstream", code="2xx") == len(made)
