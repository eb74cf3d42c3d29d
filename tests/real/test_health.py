"""Active health checks against real servers: gRPC's own health service, FastAPI and nginx."""

import signal
import time

import grpc

from client import gets, send, send_all
from programs import wait_until
from services import Calls

QUICK = {"interval": "200ms", "timeout": "200ms", "unhealthy_after": 2}
SITE = """
server {{ listen @LISTEN@; default_type text/plain;
  location / {{ return 200 "{0}"; }}
  location = /healthz {{ if (-f {1}) {{ return 204; }} return 503 "no {1}"; }}
}}
"""


def states(proxy):
    """What the checks make of each endpoint, by its port."""
    endpoints = proxy.status()["upstreams"][0]["endpoints"]
    return {int(one["address"].rpartition(":")[2]): one["health"]["state"] for one in endpoints}


def test_grpc_by_its_own_health_service(mamparo, stack, tmp_path):
    """Rules 53 and 54: who says that it does not serve gets no calls, and checks are no calls."""
    services = [stack.enter_context(Calls(tmp_path)) for _ in range(2)]
    ports = [service.port for service in services]
    check = QUICK | {"kind": "grpc", "service": "t.T"}
    proxy = mamparo(services, {"protocol": "http2", "health_check": check, "circuit_breaker": {}})
    wait_until(lambda: set(states(proxy).values()) == {"healthy"}, 10, "both serve")

    def tell(port, status):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary("/t.T/Serve")(status, timeout=5)

    def asked():
        with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
            do = channel.unary_unary("/t.T/Do")
            return {grpc_instance(do(b"{}", timeout=5)) for _ in range(20)}

    assert len(asked()) == 2
    tell(ports[0], b"NOT_SERVING")
    wait_until(lambda: states(proxy)[ports[0]] == "unhealthy", 10, "the first is out")
    assert asked() == {services[1].pid}
    tell(ports[1], b"NOT_SERVING")
    wait_until(lambda: states(proxy)[ports[1]] == "unhealthy", 10, "the other is out, too")
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        try:
            channel.unary_unary("/t.T/Do")(b"{}", timeout=5)
            raise AssertionError("nobody is there to answer")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE
            assert "health check grpc.health.v1 of t.T answered NOT_SERVING" in error.details()
    tell(ports[0], b"SERVING")
    wait_until(lambda: states(proxy)[ports[0]] == "healthy", 10, "the first is back")
    assert asked() == {services[0].pid}
    assert proxy.metric("mamparo_requests_total") == 61
    assert proxy.metric("mamparo_health_checks_total") > 10
    assert proxy.metric("mamparo_endpoints", state="unhealthy") == 1


def grpc_instance(answer):
    """Which process has answered."""
    text = answer.decode()
    return int(text.split('"instance": ')[1].split(",")[0])


def test_an_unknown_service_and_a_server_without_health_are_told_apart(mamparo, stack, tmp_path, nginx):
    """What is said of it is what an operator needs to mend it."""
    calls = stack.enter_context(Calls(tmp_path))
    site = nginx("server { listen @LISTEN@ http2; location / { return 200; } }")

    def reason(service, check):
        proxy = mamparo([service], {"protocol": "http2", "health_check": QUICK | {"kind": "grpc"} | check})
        wait_until(lambda: set(states(proxy).values()) == {"unhealthy"}, 10, "it is unhealthy")
        told = proxy.status()["upstreams"][0]["endpoints"][0]["health"]["reason"]
        proxy.kill()
        return told

    assert "ended with not_found" in reason(calls, {"service": "no.such"})
    assert "health check grpc.health.v1 " in reason(site, {})


def test_a_file_takes_nginx_out_and_lets_it_in_again(mamparo, nginx, public):
    """As operators take a server out: no request fails, and none goes there."""
    files = [public / "one", public / "two"]
    sites = [nginx(SITE.format(file.name, file)) for file in files]
    for file in files:
        file.touch()
    check = QUICK | {"path": "/healthz"}
    proxy = mamparo(sites, {"health_check": check, "retry": {}, "circuit_breaker": {}})
    wait_until(lambda: set(states(proxy).values()) == {"healthy"}, 10, "both are healthy")
    for file, site in zip(files, sites, strict=True):
        file.unlink()
        wait_until(lambda port=site.port: states(proxy)[port] == "unhealthy", 10, "it is out")
        answers = send_all(proxy.port, gets("/{}", 0.5))
        assert {answer.status for answer in answers.values()} == {200}
        assert file.name.encode() not in {answer.body for answer in answers.values()}
        file.touch()
        wait_until(lambda port=site.port: states(proxy)[port] == "healthy", 10, "it is back")


def test_a_stopped_application_is_found_without_a_request(mamparo, apps):
    """It accepts (the kernel does) and never answers: a connection alone would not tell."""
    first, second = apps(2)
    proxy = mamparo([first, second], {"health_check": QUICK | {"path": "/get/check"}})
    wait_until(lambda: set(states(proxy).values()) == {"healthy"}, 10, "both are healthy")
    first.signal(signal.SIGSTOP)
    wait_until(lambda: states(proxy)[first.port] == "unhealthy", 10, "it is found")
    answers = send_all(proxy.port, gets("/get/{}", 0.5))
    assert {answer.status for answer in answers.values()} == {200}
    first.signal(signal.SIGCONT)
    wait_until(lambda: states(proxy)[first.port] == "healthy", 10, "it is back")
    second.kill()
    wait_until(lambda: states(proxy)[second.port] == "unhealthy", 10, "so is one that is gone")
    told = {one["address"]: one["health"]["reason"] for one in proxy.status()["upstreams"][0]["endpoints"]}
    assert "got no connection (Connection refused" in told[f"127.0.0.1:{second.port}"]
    time.sleep(0.5)
    assert send(proxy.port, "GET", "/get/1").status == 200
