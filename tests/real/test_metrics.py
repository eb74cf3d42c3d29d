"""The metrics of real traffic, judged by promtool and collected by a real Prometheus."""

import asyncio
import json
import subprocess
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from client import request, send, send_all
from programs import program_path, wait_until
from relay import reset
from services import Prometheus, settled, sum_of

POLICIES = {
    "timeouts": {"try": "100ms", "request": "1s"},
    "retry": {},
    "circuit_breaker": {"consecutive_failures": "none", "failure_rate": "none"},
    "bulkhead": {"max_in_flight": 50},
    "rate_limit": {"per_second": 100000, "burst": 100000},
    "fallback": [{"on": ["timeout"], "respond": {"status": 200, "body": "late"}}],
}


def mixed(count):
    """Requests of several outcomes: answered, retried, refused by the application, answered by the fallback."""
    paths = ["/get/1", "/status/404", "/status/500", "/status/503", "/sleep/300"]
    for number in range(count):
        yield number, ("GET", paths[number % len(paths)], None, b"")


def test_promtool_finds_nothing_wrong_with_the_metrics_of_real_traffic(mamparo, apps, relays):
    """Every metric that can be moved by traffic was moved, so that each one's form is checked."""
    proxy = mamparo(relays(apps(2), seed=7), POLICIES)
    send_all(proxy.port, mixed(1000))
    metrics = proxy.metrics()
    said = subprocess.run([program_path("promtool"), "check", "metrics"], input=metrics, capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    for name in ("requests", "failures", "attempts", "retries", "connections_opened", "fallbacks"):
        assert sum_of(metrics, f"mamparo_{name}_total") > 0, name
    assert sum_of(metrics, "mamparo_request_duration_seconds_count") == 1000


def test_open_metrics_are_read_by_the_strictest_parser(mamparo, apps):
    """As Prometheus gets them, with traces as examples; the same series as in the other format."""
    proxy = mamparo(apps(1), POLICIES, tracing={"otlp": "http://127.0.0.1:9", "keep": {"rest": "100%"}})
    send_all(proxy.port, mixed(200))
    settled(proxy)
    scrape = urllib.request.Request(f"http://127.0.0.1:{proxy.admin}/metrics")
    scrape.add_header("accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5")
    with urllib.request.urlopen(scrape, timeout=5) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    durations = families["mamparo_request_duration_seconds"].samples
    examples = [sample.exemplar for sample in durations if sample.exemplar]
    assert examples
    assert all(len(example.labels["trace_id"]) == 32 and example.value > 0 for example in examples)
    plain = {line.partition("{")[0].split(" ")[0] for line in proxy.metrics().splitlines() if line[0] != "#"}
    assert plain == {sample.name for family in families.values() for sample in family.samples}


def test_clients_that_leave_are_counted_once_and_as_such(mamparo, apps):
    """Fault 41: while waiting for the head, and in the body; the seats come back and the breaker learns nothing."""
    proxy = mamparo(apps(1), {"bulkhead": {"max_in_flight": 100}, "circuit_breaker": {"consecutive_failures": 1}})

    async def leave(path, count, wait):
        streams = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(count)]
        for reader, writer in streams:
            writer.write(request("GET", path))
            await wait(reader)
        await asyncio.to_thread(wait_until, lambda: in_flight() == count, 5, f"{count} requests are in flight")
        await asyncio.sleep(0.1)  # an end that follows the request at once is a half-close, and is answered
        for number, (_, writer) in enumerate(streams):
            reset(writer) if number % 2 else writer.close()

    def in_flight():
        return proxy.metric("mamparo_bulkhead_in_flight")

    asyncio.run(leave("/sleep/20000", 30, lambda _: asyncio.sleep(0)))
    settled(proxy)
    asyncio.run(leave("/stream/1000?pause_ms=20", 20, lambda reader: reader.readuntil(b"\r\n\r\n")))
    settled(proxy)
    assert proxy.metric("mamparo_requests_total") == 50
    assert proxy.metric("mamparo_requests_total", outcome="client_gone") == 50
    assert proxy.metric("mamparo_circuit_breaker_state") == 0
    status = proxy.status()
    assert [upstream["connections"]["active"] for upstream in status["upstreams"]] == [0]
    assert [listener["connections"] for listener in status["listeners"]] == [0]


def test_prometheus_collects_exactly_the_requests_that_were_sent(mamparo, apps, stack, tmp_path):
    """Each request is counted once, in one outcome: those of curl on kept connections, those of many connections, and
    those that no route took."""
    proxy = mamparo(apps(1), POLICIES, tracing={"otlp": "http://127.0.0.1:9", "keep": {"rest": "100%"}})
    curl = [program_path("curl"), "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    subprocess.run([*curl, f"http://127.0.0.1:{proxy.port}/get/[1-500]"], check=True, timeout=60)
    send_all(proxy.port, mixed(1000))
    refused = send(proxy.port, "GET", "/get/1", {"host": "second.test"})  # a second host header: fault 15
    assert refused.status == 400
    settled(proxy)
    sent = 500 + 1000 + 1
    assert proxy.metric("mamparo_requests_total") == sent

    prometheus = stack.enter_context(Prometheus(tmp_path, {"mamparo": (proxy, {})}))

    def ask(query):
        return next(iter(prometheus.ask(query)), None)

    wait_until(lambda: ask("sum(mamparo_requests_total)") is not None, 15, "Prometheus has collected the metrics")
    assert ask("sum(mamparo_requests_total)") == sent
    assert ask("count(up == 1)") == 1
    assert ask("sum(scrape_samples_post_metric_relabeling)") > 20
    assert ask("histogram_quantile(0.5, sum by (le) (mamparo_request_duration_seconds_bucket))") < 1
    examples = prometheus.api("query_exemplars", query="mamparo_request_duration_seconds_bucket", start=0, end=4e9)
    assert all(len(one["labels"]["trace_id"]) == 32 for series in examples for one in series["exemplars"])
    assert examples
    assert json.dumps(prometheus.api("targets")).count('"health": "up"') == 1
