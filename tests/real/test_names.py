"""Endpoints by names, answered by a real DNS server: what changes there loses no request."""

import json
import random
import re
import signal
import threading
import time

import pytest

from client import gets, send, send_all
from naming import Farm, Nsd
from programs import Program, free_port, program_path, wait_until
from services import Mamparo
from test_restarts import during, failures

RECORD = "_http._tcp.app"


@pytest.fixture
def farm(stack, tmp_path):
    """A process with many small servers."""
    return stack.enter_context(Farm(tmp_path))


@pytest.fixture
def dns(stack, tmp_path):
    """Starts a DNS server with these records."""
    return lambda records: stack.enter_context(Nsd(tmp_path, records))


@pytest.fixture
def proxy(stack, tmp_path):
    """Starts mamparo before one endpoint that this server knows."""

    def start(server, endpoint, **policies):
        upstream = {"endpoints": [endpoint]} | policies
        runtime = {"dns": {"servers": [f"127.0.0.1:{server.port}"]}}
        return stack.enter_context(Mamparo(tmp_path, [], upstream, runtime=runtime))

    return start


def source(proxy):
    """What is told of the only source."""
    return proxy.status()["upstreams"][0]["sources"][0]


def used(proxy):
    """The ports that get requests, in order."""
    endpoints = proxy.status()["upstreams"][0]["endpoints"]
    found = [one["address"] for one in endpoints if one["weight"] and not one["draining"]]
    return sorted(int(address.rpartition(":")[2]) for address in found)


def targets(ports):
    """The records of a service on these ports of this machine."""
    return ["host 1 A 127.0.0.1"] + [f"{RECORD} 1 SRV 0 0 {port} host" for port in ports]


def free_ports(count):
    """So many ports, each once."""
    found = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


def test_1000_changes_of_endpoints_under_load_lose_no_request(farm, dns, proxy, stack, tmp_path):
    """Rule 68: ports come and go in the record, in order and not, while requests run, and a real generator's beside
    them."""
    chance = random.Random(68)
    ports = free_ports(120)
    first = set(ports[:60])
    farm.order("open", first)
    server = dns(targets(first))
    app = proxy(server, {"srv": f"{RECORD}.test"}, retry={})
    changes, done = [], threading.Event()

    def seen(wanted):
        wait_until(lambda: used(app) == sorted(wanted), 10, "the change is seen")

    def trouble():
        running = first
        try:
            while sum(changes) < 1000:
                leaving = chance.sample(sorted(running), 36)
                coming = chance.sample(sorted(set(ports) - running), 36)
                farm.order("open", coming)
                # one is gone before anybody is told
                farm.order("drop", leaving[:1])
                running = running - set(leaving) | set(coming)
                server.say(targets(running))
                seen(running)
                changes.append(len(leaving) + len(coming))
                # some answer on until they have nothing left to do, some do not
                farm.order("drop", leaving[1:4])
                farm.order("close", leaving[4:])
        finally:
            done.set()

    def requests():
        number = 0
        while not done.is_set():
            yield number, ("GET", f"/{number}", None, b"")
            number += 1

    seen(first)
    wrk = [program_path("wrk"), "-t1", "-c32", "-d120s", f"http://127.0.0.1:{app.port}/wrk"]
    stack.enter_context(Program(wrk, tmp_path / "wrk.log"))
    answers = during(trouble, lambda: send_all(app.port, requests()))
    assert not failures(answers)
    assert sum(changes) >= 1000 and len(answers) > 2000, (changes, len(answers))
    for outcome in ("failed", "refused"):
        assert app.metric("mamparo_requests_total", outcome=outcome) == 0, outcome
    assert app.metric("mamparo_requests_total", outcome="upstream") > 2 * len(answers)
    assert source(app)["problem"] is None


def test_an_orderly_change_needs_no_retry(farm, dns, proxy):
    """An endpoint that leaves the record is not asked any more; what it is at, it finishes."""
    first, second = free_ports(2)
    farm.order("open", [first])
    server = dns(targets([first]))
    app = proxy(server, {"srv": f"{RECORD}.test"})

    def trouble():
        for gone, come in [(first, second), (second, first), (first, second)]:
            farm.order("open", [come])
            server.say(targets([come]))
            wait_until(lambda come=come: used(app) == [come], 10, "the change is seen")
            time.sleep(0.3)
            farm.order("close", [gone])

    answers = during(trouble, lambda: send_all(app.port, gets("/sleep/20?{}", 7)))
    assert not failures(answers)
    assert app.metric("mamparo_retries_total") == 0


def test_a_reload_from_one_kind_of_endpoint_to_another_loses_no_request(farm, dns, proxy):
    """What was there serves until the source in its place has been asked; there is no retry here."""
    port = free_port()
    farm.order("open", [port])
    server = dns([*targets([port]), "app 1 A 127.0.0.1"])
    app = proxy(server, f"127.0.0.1:{port}")
    config = json.loads(app.config.read_text())

    def trouble():
        for number in range(12):
            time.sleep(0.3)
            endpoint = [{"srv": f"{RECORD}.test"}, f"app.test:{port}", f"127.0.0.1:{port}"][number % 3]
            config["upstreams"]["app"]["endpoints"] = [endpoint]
            app.write(config)
            wait_until(lambda number=number: generation(app) == number + 2, 5, "it is applied")

    def generation(app):
        return app.status()["process"]["generation"]

    answers = during(trouble, lambda: send_all(app.port, gets("/{}", 5)))
    assert not failures(answers)
    assert app.metric("mamparo_retries_total") == 0


def test_a_name_that_resolves_only_later(farm, dns, proxy):
    """Fault 59: it starts, is ready, says why, and works when the name is there."""
    port = free_port()
    farm.order("open", [port])
    server = dns([])
    app = proxy(server, f"app.test:{port}")
    answer = send(app.port, "GET", "/")
    assert (answer.status, answer.headers["x-mamparo-reason"]) == (503, "no_endpoint")
    assert "NXDOMAIN" in source(app)["problem"]
    server.say(["app 300 CNAME other", "other 1 A 127.0.0.1"])
    wait_until(lambda: send(app.port, "GET", "/").status == 200, 10, "the name is found")
    assert source(app)["next_ms"] <= 1000, "the shortest time to live of the chain"
    assert source(app)["problem"] is None


def test_other_servers_are_asked_at_once(farm, stack, tmp_path, proxy):
    """A reload that names another server does not wait for the answers of the old one to expire."""
    first, second = free_ports(2)
    farm.order("open", [first, second])
    servers = [
        stack.enter_context(Nsd(tmp_path, [f"{RECORD} 300 SRV 0 0 {port} h", "h 300 A 127.0.0.1"]))
        for port in (first, second)
    ]
    app = proxy(servers[0], {"srv": f"{RECORD}.test"})
    wait_until(lambda: used(app) == [first], 10, "the first server's answer is used")
    config = json.loads(app.config.read_text())
    config["runtime"]["dns"]["servers"] = [f"127.0.0.1:{servers[1].port}"]
    app.write(config)
    wait_until(lambda: used(app) == [second], 5, "the second server's answer is used")


def break_by_removal(server):
    """SERVFAIL: the server has the zone, and cannot read it."""
    server.remove()
    server.restart()


def break_by_refusal(server):
    """REFUSED: the server does not have the zone."""
    server.configure(zone=False)
    server.restart()


TROUBLES = {
    "SERVFAIL": ("Server Failure", break_by_removal),
    "REFUSED": ("Query Refused", break_by_refusal),
    "silence": ("", lambda server: server.signal_all(signal.SIGSTOP)),
    "no server": ("", lambda server: server.kill()),
    "NXDOMAIN": ("NXDOMAIN", lambda server: server.say([])),
    "nothing": ("nothing behind the name", lambda server: server.say(["app 1 TXT nothing"])),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_was_known_serves_on(farm, dns, proxy, trouble):
    """Fault 60, rule 68: SERVFAIL, REFUSED, silence, no server, NXDOMAIN, nothing; and back again."""
    port = free_port()
    farm.order("open", [port])
    server = dns(["app 0 A 127.0.0.1"])
    app = proxy(server, f"app.test:{port}")
    assert send(app.port, "GET", "/").status == 200
    problem, begin = TROUBLES[trouble]
    begin(server)
    wait_until(lambda: source(app)["problem"], 15, "the problem is told")
    assert problem in source(app)["problem"]
    answers = send_all(app.port, gets("/{}", 0.5))
    assert answers and not failures(answers)
    server.kill()
    server.configure()
    server.write(["app 1 A 127.0.0.1"])
    server.restart()
    wait_until(lambda: source(app)["problem"] is None, 40, "the name is found again")
    assert app.metric("mamparo_discovery_updates_total", result="failed") >= 1


def test_of_500_addresses_256_are_used_and_it_is_told_once(farm, dns, proxy):
    """Fault 60: such an answer needs TCP."""
    port = free_port()
    farm.order("open", [port], host="0.0.0.0")
    server = dns([f"app 1 A 127.1.{number // 250}.{number % 250 + 1}" for number in range(500)])
    app = proxy(server, f"app.test:{port}")
    assert source(app)["addresses"] == 256
    before = used(app)
    answers = send_all(app.port, gets("/{}", 3))
    assert answers and not failures(answers)
    assert used(app) == before and len(before) == 256
    assert len(re.findall("more than 256 addresses", app.output())) == 1


def test_answers_that_rotate_lose_nothing(farm, dns, proxy):
    """Fault 60, rule 68: eight addresses at a time of 24, each time others."""
    port = free_port()
    farm.order("open", [port], host="0.0.0.0")
    chance = random.Random(60)
    every = [f"127.2.0.{number}" for number in range(1, 25)]

    def some():
        return [f"app 1 A {address}" for address in chance.sample(every, 8)]

    server = dns(some())
    app = proxy(server, f"app.test:{port}")

    def trouble():
        for _ in range(8):
            time.sleep(0.9)
            server.say(some())

    answers = during(trouble, lambda: send_all(app.port, gets("/{}", 8)))
    assert not failures(answers)
    assert app.metric("mamparo_retries_total") == 0
    # each address that was in one of the last answers is still known
    assert source(app)["addresses"] > 16
    assert len(used(app)) == 8


def test_an_answer_with_only_our_own_address(dns, proxy):
    """Fault 60: requests would go round in circles."""
    server = dns([])
    app = proxy(server, "app.test:1")
    config = app.config.read_text().replace("app.test:1", f"app.test:{app.port}")
    app.write(config)
    server.say(["app 1 A 127.0.0.1"])
    wait_until(lambda: "go round in circles" in app.output(), 10, "it is told")
    answer = send(app.port, "GET", "/")
    assert (answer.status, answer.headers["x-mamparo-reason"]) == (503, "no_endpoint")
