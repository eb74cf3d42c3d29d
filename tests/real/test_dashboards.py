"""The dashboards and the rules, over the metrics of real traffic that a real Prometheus has collected: every query of
every panel has something to show."""

import contextlib
import itertools
import json
import math
import re
import signal
import socket
import threading

import pytest

from client import send_all
from programs import ROOT, free_port, wait_until
from services import Mamparo, Prometheus, config_of
from test_tls import Authority

DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RULES = DEPLOY / "prometheus" / "rules.yaml"

# What Grafana puts in the place of its variables, with these choices.
CHOICES = {
    "namespace": "shop",
    "service": "orders",
    "upstream": ".*",
    "instance": ".*",
    "__rate_interval": "10s",
    "__range": "1m",
}

# Everything that moves a metric: tries that fail and are made again, until the budget has no token; an upstream that is
# away, and its fallback; more requests than seats.
UPSTREAMS = {
    "app": {
        "health_check": {"path": "/get/health", "interval": "1s"},
        "timeouts": {"try": "150ms", "request": "2s"},
        "retry": {"budget": {"ratio": "5%", "min_per_second": 1}, "backoff": {"base": "5ms"}},
        "circuit_breaker": {"consecutive_failures": "none", "failure_rate": "none"},
        "bulkhead": {"max_in_flight": 6, "max_queue": 4, "queue_timeout": "50ms"},
        "fallback": [{"on": ["timeout"], "respond": {"status": 200, "body": "late"}}],
    },
    "away": {
        "retry": {},
        "circuit_breaker": {"consecutive_failures": 1, "open_for": "1s"},
        "fallback": [{"on": ["breaker_open"], "respond": {"status": 200, "body": "instead"}}],
    },
}
PATHS = ["/get/{}", "/sleep/40", "/status/503", "/sleep/400", "/away/{}", "/status/404", "/nowhere/{}"]


def panels(dashboard):
    """The panels of a dashboard, those within rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def filled(text):
    """A text with the choices in the place of the variables."""
    for name, value in CHOICES.items():
        text = re.sub(rf"\$({name}\b|{{{name}}})", value, text)
    assert "$" not in text, f"a variable that is not there: {text}"
    return text


def queries():
    """Every query of every panel, by where it stands."""
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}: {target['refId']}", filled(target["expr"])


def test_the_dashboards_lead_to_each_other_and_have_no_two_panels_of_one_number():
    """Links name dashboards and variables that are there."""
    boards = {board["uid"]: board for board in (json.loads(path.read_text()) for path in DASHBOARDS)}
    assert len(boards) == len(DASHBOARDS) == 3
    for uid, board in boards.items():
        ids = [panel["id"] for panel in panels(board)]
        assert len(ids) == len(set(ids)), uid
        for panel in panels(board):
            assert panel["type"] in ("row", "text") or panel["description"], f"{uid}: {panel['title']}"
        for other, query in re.findall(r'"url": "/d/([\w-]+)\?([^"]*)"', json.dumps(board)):
            known = {variable["name"] for variable in boards[other]["templating"]["list"]}
            named = set(re.findall(r"var-(\w+)=", query)) | set(re.findall(r"\${(\w+):queryparam}", query))
            assert named and named <= known, (uid, other, named - known)


def test_every_metric_is_on_a_dashboard():
    """What the program tells can be seen; who adds a metric adds it to a panel."""
    shown = "".join(path.read_text() for path in DASHBOARDS)
    metrics = set(re.findall(r'"(mamparo_\w+)"', (ROOT / "src" / "telemetry" / "table.rs").read_text()))
    assert len(metrics) > 25
    assert {metric for metric in metrics if not re.search(rf"\b{metric}(_bucket)?\b", shown)} == set()


@pytest.fixture
def orders(stack, tmp_path, apps):
    """A service's sidecar with every policy, two upstreams, and a listener under TLS."""
    cert, key = Authority(tmp_path / "pki").issue("first")
    proxy, tls = Mamparo(tmp_path, [], None), free_port()
    upstreams = {"app": {"endpoints": [f"127.0.0.1:{app.port}" for app in apps(2)]} | UPSTREAMS["app"]}
    upstreams["away"] = {"endpoints": [f"localhost:{free_port()}"]} | UPSTREAMS["away"]
    routes = [{"match": {"path_prefix": "/away"}, "upstream": "away"}]
    routes += [{"match": {"path_prefix": path}, "upstream": "app"} for path in ("/get", "/sleep", "/status")]
    listeners = {
        "outbound": {"address": f"127.0.0.1:{proxy.port}", "routes": routes},
        "inbound": {
            "address": f"127.0.0.1:{tls}",
            "upstream": "app",
            "tls": {"cert": str(cert), "key": str(key)},
            "limits": {"connections": 1},
        },
    }
    proxy.configured = config_of(proxy.port, proxy.admin, [], listeners=listeners, upstreams=upstreams)
    proxy.tls = tls
    proxy.write(proxy.configured)
    return stack.enter_context(proxy)


def bad_clients(port):
    """A client that speaks no TLS where it must, and more connections than are allowed."""
    with socket.create_connection(("127.0.0.1", port)) as first, socket.create_connection(("127.0.0.1", port)):
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        first.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while first.recv(4096):
                pass


def reload(proxy, config, result):
    """Replaces the configuration and waits for what comes of it."""
    proxy.write(config)
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: (proxy.status()["last_reload"] or {}).get("result") == result, 10, f"the reload is {result}")


def test_every_query_has_something_to_show(stack, tmp_path, apps, orders):
    """Under load, with retries, denials, fallbacks, an open breaker, a full queue, a reload that was applied and one
    that was refused. The rules are evaluated beside it, and their texts are complete."""
    (tmp_path / "stock").mkdir()
    stock = stack.enter_context(Mamparo(tmp_path / "stock", [apps(1)[0].port], {"retry": {}, "bulkhead": {}}))
    jobs = {"orders": (orders, {"namespace": "shop"}), "stock": (stock, {"namespace": "shop"})}
    prometheus = stack.enter_context(Prometheus(tmp_path, jobs, [RULES]))
    stop = threading.Event()

    def requests(paths):
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            yield number, ("GET", paths[number % len(paths)].format(number), None, b"")

    loads = [
        threading.Thread(target=lambda: send_all(orders.port, requests(PATHS), 24)),
        threading.Thread(target=lambda: send_all(stock.port, requests(["/get/{}", "/sleep/20"]), 2)),
    ]
    stack.callback(stop.set)
    for load in loads:
        load.start()
    wait_until(lambda: prometheus.ask("count(mamparo_requests_total)"), 15, "Prometheus has collected metrics")
    bad_clients(orders.tls)
    reload(orders, orders.configured | {"errors": {"format": "problem"}}, "applied")
    reload(orders, "listeners: [", "refused")

    waiting = dict(queries())
    assert len(waiting) > 60
    results = {}

    def all_answered():
        for where, query in list(waiting.items()):
            results[where] = prometheus.ask(query)
            if any(not math.isnan(value) for value in results[where]):
                del waiting[where]
        return not waiting

    try:
        wait_until(all_answered, 40, "every query has something to show", pause=0.5)
    except TimeoutError as error:
        raise AssertionError("\n".join(f"{where}: {query}" for where, query in waiting.items())) from error
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", filled(variable["query"])).groups()
                assert prometheus.api(f"label/{label}/values", **{"match[]": series}), (path.name, variable["name"])
    judge_rules(prometheus)
    stop.set()
    for load in loads:
        load.join()


def judge_rules(prometheus):
    """Every rule can be evaluated, and those that are about to fire have texts with what they are about."""
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    expected = {"MamparoConfigRefused", "MamparoCircuitBreakerOpen", "MamparoRetryBudgetExhausted"}

    def pending():
        alerts = {alert["labels"]["alertname"]: alert for alert in prometheus.api("alerts")["alerts"]}
        return alerts if expected <= alerts.keys() else None

    alerts = wait_until(pending, 20, f"{expected} are about to fire")
    for name, alert in alerts.items():
        texts = alert["annotations"]
        assert texts.keys() == {"summary", "description", "runbook"}, name
        assert "orders" in texts["summary"], texts
        for text in texts.values():
            assert "<no value>" not in text and "<error" not in text and "{{" not in text, text
    for rule in rules:
        if rule["type"] == "alerting":
            assert rule["labels"]["severity"] in ("critical", "warning"), rule["name"]
            assert re.search(
                r"mamparo (explain|top|check|probe)|GET /api/v1/status|As for ", rule["annotations"]["runbook"]
            )
