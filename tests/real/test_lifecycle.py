"""Start, reload and end of the process."""

import json
import signal
import threading
import time

from client import send, send_all
from programs import Program, get, get_json, mamparo_binary, wait_until
from services import Mounted, config_of, settled


def marked(mark):
    """Policies that can be told apart from outside, while the upstream is away."""
    return {"fallback": [{"on": ["any"], "respond": {"status": 200, "body": mark}}]}


def shown(proxy):
    """The mark that the proxy answers with."""
    return send(proxy.port, "GET", "/get/1").body.decode()


class Nobody:
    """An upstream that is not there."""

    port = 9


def test_sigterm_lets_requests_in_flight_end_and_exits_with_0(mamparo, apps):
    """Fault 69; readiness fails at once, work in flight is answered, an idle connection does not hold up the end."""
    proxy = mamparo(apps(1), {"timeouts": {"request": "10s"}, "bulkhead": {}})
    answers = {}
    requests = [(n, ("GET", "/sleep/1500", None, b"")) for n in range(16)]
    load = threading.Thread(target=lambda: answers.update(send_all(proxy.port, requests, 16)))
    load.start()
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 16, 5, "16 requests are in flight")
    proxy.signal(signal.SIGTERM)
    begin = time.monotonic()
    wait_until(lambda: get(f"http://127.0.0.1:{proxy.admin}/readyz")[0] == 503, 1, "readiness says no")
    load.join()
    assert [answer.status for answer in answers.values()] == [200] * 16
    assert proxy.wait(10) == 0
    assert time.monotonic() - begin < 5, "ended when the work was done, not when `drain` was over"


def test_the_drain_ends_work_that_takes_too_long(mamparo, apps):
    """Fault 69: `runtime.drain` is a bound."""
    proxy = mamparo(apps(1), {"timeouts": {"request": "60s"}, "bulkhead": {}}, runtime={"drain": "500ms"})
    answers = {}
    request = [(0, ("GET", "/sleep/20000", None, b""))]
    load = threading.Thread(target=lambda: answers.update(send_all(proxy.port, request, 1)))
    load.start()
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 1, 5, "the request is in flight")
    begin = time.monotonic()
    proxy.signal(signal.SIGTERM)
    proxy.wait(10)
    assert 0.4 < time.monotonic() - begin < 5
    load.join()
    assert answers[0].status != 200


def test_a_second_sigterm_ends_it_at_once(mamparo, apps):
    """Fault 69."""
    proxy = mamparo(apps(1), {"timeouts": {"request": "60s"}, "bulkhead": {}})
    request = [(0, ("GET", "/sleep/20000", None, b""))]
    load = threading.Thread(target=lambda: send_all(proxy.port, request, 1))
    load.start()
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 1, 5, "the request is in flight")
    proxy.signal(signal.SIGTERM)
    time.sleep(0.3)
    proxy.signal(signal.SIGTERM)
    proxy.wait(3)
    load.join()


def test_sighup_reloads_and_a_broken_file_keeps_the_old_configuration(mamparo):
    """Fault 68."""
    proxy = mamparo([Nobody], marked("one"))
    assert shown(proxy) == "one"

    proxy.write(config_of(proxy.port, proxy.admin, [9], marked("two")))
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: shown(proxy) == "two", 5, "the new configuration runs")
    assert proxy.status()["process"]["generation"] == 2
    assert proxy.status()["last_reload"]["result"] == "applied"

    proxy.write("listeners: {outbound: {address: nowhere, upstraem: app}}")
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: proxy.status()["last_reload"]["result"] == "refused", 5, "the broken file is refused")
    problems = "\n".join(proxy.status()["last_reload"]["problems"])
    assert "mamparo.yaml:1:" in problems and "upstraem" in problems and "upstream" in problems
    assert shown(proxy) == "two"
    assert proxy.status()["process"]["generation"] == 2
    assert proxy.metric("mamparo_config_last_reload_success") == 0
    assert proxy.metric("mamparo_config_reloads_total", result="refused") >= 1

    proxy.write(config_of(proxy.port, proxy.admin, [9], marked("three")))
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: shown(proxy) == "three", 5, "the repaired file runs")
    assert proxy.metric("mamparo_config_last_reload_success") == 1


def test_a_saved_file_is_noticed_without_a_signal(mamparo):
    """The folder is watched."""
    proxy = mamparo([Nobody], marked("one"))
    proxy.write(config_of(proxy.port, proxy.admin, [9], marked("two")))
    wait_until(lambda: shown(proxy) == "two", 15, "the new configuration runs")


def test_a_config_map_swap_is_noticed_again_and_again(stack, tmp_path):
    """The kubelet replaces the folder behind `..data`; the file's own path never changes."""
    proxy = stack.enter_context(Mounted(tmp_path, [9], marked("0")))
    for number in range(1, 4):
        proxy.write(config_of(proxy.port, proxy.admin, [9], marked(str(number))))
        wait_until(lambda mark=str(number): shown(proxy) == mark, 15, f"swap {number} is noticed")


def test_requests_survive_reloads(mamparo, apps):
    """A reload under load costs no request; memory of the upstream goes on under the new configuration."""
    (app,) = apps(1)
    policies = {"bulkhead": {"max_in_flight": 100}, "retry": {}, "circuit_breaker": {}}
    proxy = mamparo([app], policies)
    answers = {}
    requests = [(n, ("GET", f"/sleep/{n % 30}", None, b"")) for n in range(3000)]
    load = threading.Thread(target=lambda: answers.update(send_all(proxy.port, requests, 16)))
    load.start()
    for number in range(10):
        policies["bulkhead"] = {"max_in_flight": 101 + number}
        proxy.write(config_of(proxy.port, proxy.admin, [app.port], policies))
        proxy.signal(signal.SIGHUP)
        wait_until(lambda limit=101 + number: proxy.metric("mamparo_bulkhead_limit") == limit, 5, "it is applied")
        time.sleep(0.1)
    assert load.is_alive(), "the load outlasts the reloads"
    load.join()
    assert [a for a in answers.values() if a.status != 200] == []
    settled(proxy)
    assert proxy.metric("mamparo_requests_total") == 3000


def test_port_0_is_told_in_the_log(stack, tmp_path, apps):
    """Who lets the system choose ports finds them in the log, which is JSON where it is no terminal."""
    (app,) = apps(1)
    config = tmp_path / "mamparo.yaml"
    config.write_text(json.dumps(config_of(0, 0, [app.port])))
    command = [mamparo_binary("debug", "release"), "run", "--config", config]
    program = stack.enter_context(Program(command, tmp_path / "mamparo.log"))

    def told(message, **fields):
        for line in map(json.loads, program.output().splitlines()):
            if fields | {"message": message} == {name: line.get(name) for name in ("message", *fields)}:
                return int(line["address"].removeprefix("127.0.0.1:"))
        return None

    program.ready(lambda: told("listening", listener="outbound") and told("admin listening"))
    port, admin = told("listening", listener="outbound"), told("admin listening")
    assert send(port, "GET", "/get/1").status == 200
    listeners = get_json(f"http://127.0.0.1:{admin}/api/v1/status")["listeners"]
    assert [listener["address"] for listener in listeners] == [f"127.0.0.1:{port}"]
