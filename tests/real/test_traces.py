"""Spans of real traffic, read by the protobuf of OpenTelemetry's own package, sent straight and by way of a real
collector."""

import gzip
import http.server
import importlib.util
import threading
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from client import gets, send, send_all
from programs import Program, free_port, wait_until
from services import listens, settled

RETRY = {"retry": {"backoff": {"base": "10ms", "jitter": "none"}}}
SECRETS = {"authorization": "Bearer hunter2", "cookie": "session=hunter2"}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ERROR = trace_pb2.Status.STATUS_CODE_ERROR


class Sink:
    """An HTTP server that keeps the spans it is sent. `status`: what it answers."""

    def __init__(self):
        self.spans, self.bodies, self.status = [], [], 200
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                if sink.status == 200:
                    sink.take(self, body)
                self.send_response(sink.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, request, body):
        """Reads what was sent; each span with the attributes of its resource."""
        assert (request.path, request.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        self.bodies.append(body)
        for all_of in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes(all_of.resource)
            for scope in all_of.scope_spans:
                assert scope.scope.name == "mamparo"
                self.spans.extend((span, resource) for span in scope.spans)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count):
        """Waits for exactly so many spans."""
        wait_until(lambda: len(self.spans) >= count, 15, f"{count} spans")
        assert len(self.spans) == count
        return self.spans


class Rotel(Program):
    """A real collector, which sends on what it takes."""

    def __init__(self, folder, to):
        self.port, grpc = free_port(), free_port()
        package = Path(importlib.util.find_spec("rotel").origin).parent
        where = [f"--otlp-http-endpoint=127.0.0.1:{self.port}", f"--otlp-grpc-endpoint=127.0.0.1:{grpc}"]
        send_on = ["--exporter=otlp", f"--otlp-exporter-endpoint={to}", "--otlp-exporter-protocol=http"]
        command = [package / "rotel-agent", "start", *where, *send_on, "--batch-timeout=100ms"]
        super().__init__(command, Path(folder) / "rotel.log")

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))


@pytest.fixture
def sink(stack):
    """A server that keeps the spans."""
    return stack.enter_context(Sink())


def attributes(of):
    """Keys with values, whatever their kind."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def tracing(url, **keep):
    """Spans of everything, if nothing else is said."""
    return {"otlp": url, "keep": {"rest": "100%"} | keep}


def check_retried(sink, body_of):
    """One request that was tried twice: first 503, then 200."""
    (server, resource), (first, _), (second, _) = sorted(sink.wait_for(3), key=lambda one: one[0].start_time_unix_nano)
    assert resource["service.name"] == "real"
    assert resource["telemetry.sdk.language"] == "rust"
    for span in (server, first, second):
        assert span.trace_id.hex() == TRACE
        assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= server.end_time_unix_nano
    assert server.parent_span_id.hex() == CALLER
    assert first.parent_span_id == second.parent_span_id == server.span_id
    assert len({server.span_id, first.span_id, second.span_id}) == 3
    kinds = [span.kind for span in (server, first, second)]
    assert kinds == [trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_CLIENT, trace_pb2.Span.SPAN_KIND_CLIENT]
    assert [span.name for span in (server, first, second)] == ["GET app", "GET", "GET"]
    told = attributes(server)
    expected = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "app",
        "url.path": "/fail/traced/1",
        "url.scheme": "http",
        "server.address": "upstream.test",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "mamparo.outcome": "upstream",
        "mamparo.upstream": "app",
    }
    assert {key: told.get(key) for key in expected} == expected
    told = attributes(first)
    assert (told["http.response.status_code"], told["error.type"], told["mamparo.outcome"]) == (503, "503", "failure")
    assert "http.request.resend_count" not in told
    told = attributes(second)
    assert (told["http.response.status_code"], told["http.request.resend_count"]) == (200, 1)
    assert "error.type" not in told
    assert [span.status.code == ERROR for span in (server, first, second)] == [False, True, False]
    assert [event.name for event in server.events] == ["mamparo.backoff"]
    assert b"hunter2" not in body_of


def ask_retried(proxy):
    """The request that is checked above."""
    headers = SECRETS | {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    assert send(proxy.port, "GET", "/fail/traced/1?token=hunter2", headers).status == 200


def test_a_retried_request_is_told_as_opentelemetry_has_it(mamparo, apps, sink):
    """Parent, tries, status and names; and no secret."""
    proxy = mamparo(apps(1), RETRY, tracing=tracing(sink.url))
    ask_retried(proxy)
    check_retried(sink, b"".join(sink.bodies))
    wait_until(lambda: proxy.metric("mamparo_spans_total", result="exported") == 3, 5, "the spans are counted")


def test_a_real_collector_takes_the_spans_and_sends_them_on(mamparo, apps, sink, stack, tmp_path):
    """What it has read is what was sent. While it is down, requests are answered and spans counted as lost."""
    rotel = stack.enter_context(Rotel(tmp_path, sink.url))
    proxy = mamparo(apps(1), RETRY, tracing=tracing(f"http://127.0.0.1:{rotel.port}"))
    ask_retried(proxy)
    check_retried(sink, b"".join(sink.bodies))

    rotel.kill()
    answers = send_all(proxy.port, gets("/get/{}", 1.0))
    assert {answer.status for answer in answers.values()} == {200}
    spans = 2 * len(answers)

    def gone():
        return proxy.metric("mamparo_spans_total") - proxy.metric("mamparo_spans_total", result="exported")

    wait_until(lambda: gone() > 0, 15, "the spans of the time without a collector are lost")
    rotel.start().ready(lambda: listens(rotel.port))
    wait_until(lambda: proxy.metric("mamparo_spans_total") == spans + 3, 30, "every span is counted")
    send_all(proxy.port, [("again", ("GET", "/get/again", None, b""))])
    wait_until(
        lambda: any(attributes(span).get("url.path") == "/get/again" for span, _ in sink.spans), 15, "spans come again"
    )
    assert "takes spans again" in proxy.output()


def test_a_tenth_of_the_traces_is_kept_and_every_failure(mamparo, apps, sink):
    """The share is taken by the traces' ids; what failed is kept whatever its id."""
    proxy = mamparo(apps(1), tracing=tracing(sink.url, rest="10%", slower_than="none"))
    plain = [(number, ("GET", f"/get/{number}", None, b"")) for number in range(2000)]
    failing = [(f"f{number}", ("GET", "/status/500", None, b"")) for number in range(50)]
    send_all(proxy.port, plain + failing)
    settled(proxy)
    wait_until(lambda: len([span for span, _ in sink.spans if failed(span)]) == 50, 15, "every failure is there")
    exported = proxy.metric("mamparo_spans_total", result="exported")
    wait_until(lambda: len(sink.spans) >= exported, 5, "what was exported is here")
    servers = [span for span, _ in sink.spans if span.kind == trace_pb2.Span.SPAN_KIND_SERVER and not failed(span)]
    assert 140 <= len(servers) <= 260, len(servers)
    least = (1 << 56) * 9 // 10
    assert all(int.from_bytes(span.trace_id[9:]) >= least - 16 for span in servers)


def failed(span):
    """Whether it is of a request that failed."""
    return span.kind == trace_pb2.Span.SPAN_KIND_SERVER and span.status.code == ERROR
