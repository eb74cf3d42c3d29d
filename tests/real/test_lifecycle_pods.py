"""The end of a pod, with real processes: the application and the sidecar are told at the same moment (plain), or the
sidecar when the application has ended (native); jobs; and instances that are replaced one after another under load."""

import asyncio
import contextlib
import itertools
import signal
import sys
import time
import urllib.request

import pytest

from client import Connection
from programs import Program, free_port, get, wait_until
from services import HERE, Mamparo, config_of

LINGERS = 3.0


class Application(Program):
    """The application that calls through its sidecar, and ends late."""

    def __init__(self, folder, port, way, pause, seconds=LINGERS):
        super().__init__([sys.executable, HERE / "late_application.py", port, seconds, pause, way], folder / "late.log")

    def calls(self):
        """When each call came back, by its name; all of them must have been answered."""
        lines = [line.split(" ", 3) for line in self.output().splitlines()]
        assert [line for line in lines if line[2] != "200"] == []
        return {line[0]: float(line[1]) for line in lines}


@pytest.fixture
def pod(stack, mamparo, apps, tmp_path):
    """Starts the sidecar, with a listener for each direction, and then the application beside it."""

    def start(way, pause, drain="15s", **rest):
        others = apps(1)
        inbound = free_port()
        proxy = mamparo(others, runtime={"drain": drain})
        config = config_of(proxy.port, proxy.admin, [others[0].port], runtime={"drain": drain})
        config["listeners"]["inbound"] = {"address": f"127.0.0.1:{inbound}", "role": "inbound", "upstream": "app"}
        proxy.write(config)
        proxy.signal(signal.SIGHUP)
        wait_until(lambda: len(proxy.status()["listeners"]) == 2, 5, "both listeners are there")
        application = stack.enter_context(Application(tmp_path, proxy.port, way, pause, **rest))
        wait_until(lambda: application.output().count("\n") > 1, 10, "it calls")
        return proxy, application

    return start


@pytest.mark.parametrize(("way", "pause"), [("kept", 0.1), ("kept", 1.4), ("new", 1.2)])
def test_plain_an_application_that_ends_late_gets_its_last_calls_through(pod, way, pause):
    """Rule 84: both are told at the same moment; outbound goes on until the application has gone."""
    proxy, application = pod(way, pause)
    told = time.time()
    proxy.signal(signal.SIGTERM)
    application.signal(signal.SIGTERM)
    assert application.wait(20) == 0
    ended = time.time()
    assert proxy.running(), "it outlives the application"
    assert proxy.wait(10) == 0
    assert time.time() - ended < 5, "and not for long"
    calls = application.calls()
    assert calls["last"] - told > LINGERS - 0.5


def test_native_the_sidecar_is_told_when_the_application_has_ended(pod):
    """The kubelet's order for sidecars that are init containers: nothing is to be waited for."""
    proxy, application = pod("kept", 0.1)
    application.signal(signal.SIGTERM)
    assert application.wait(20) == 0
    application.calls()
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(10) == 0
    assert time.monotonic() - began < 5


def test_an_application_that_does_not_end_is_served_until_the_drain_is_over(pod):
    """`runtime.drain` is a bound, and what is in flight then is ended."""
    proxy, application = pod("kept", 0.1, drain="6s", seconds=60)
    proxy.signal(signal.SIGTERM)
    began = time.monotonic()
    proxy.wait(25)
    assert 5.5 < time.monotonic() - began < 11
    wait_until(lambda: " 0 " in application.output(), 10, "nobody is there any more")
    lines = application.output().splitlines()
    served = list(itertools.takewhile(lambda line: " 200 " in line, lines))
    span = float(served[-1].split(" ")[1]) - float(served[0].split(" ")[1])
    assert span > 5, "every call of all that time was answered"


def test_a_job_ends_its_sidecar_by_one_request(stack, mamparo, apps):
    """In a plain container nobody tells the sidecar that the work is done; the job does."""
    proxy = mamparo(apps(1))
    assert get(f"http://127.0.0.1:{proxy.port}/get/1")[0] == 200
    quit_order = urllib.request.Request(f"http://127.0.0.1:{proxy.admin}/api/v1/quit", method="POST")
    with urllib.request.urlopen(quit_order, timeout=5) as answer:
        assert answer.status in (200, 202)
    assert proxy.wait(10) == 0


class Front:
    """A balancer of a few lines: it asks each instance whether it is ready, every 50 ms, and sends requests to those
    that are. It never sends one twice."""

    def __init__(self, instances, takes):
        self.instances = instances
        self.takes = takes
        self.ready = {}
        self.in_flight = {instance.port: 0 for instance in instances}
        self.lost = []
        self.answered = 0
        self.stopped = False

    async def watch(self):
        """Keeps the list of those that are ready; each time that one comes back is another life of it."""
        lives = itertools.count()
        while not self.stopped:
            for instance in self.instances:
                if not await asyncio.to_thread(is_ready, instance):
                    self.ready.pop(instance.port, None)
                elif instance.port not in self.ready:
                    self.ready[instance.port] = next(lives)
            await asyncio.sleep(0.05)

    async def work(self, number):
        """Sends one request after another, in turn to those that are ready."""
        connections = {}
        for turn in itertools.count(number):
            if self.stopped:
                break
            ports = sorted(self.ready)
            if not ports:
                await asyncio.sleep(0.01)
                continue
            port = ports[turn % len(ports)]
            life, connection = connections.get(port, (None, None))
            if life != self.ready[port]:
                if connection:
                    connection.close()
                connection = Connection(port)
                connections[port] = (self.ready[port], connection)
            self.in_flight[port] += 1
            answer = await connection.send("POST", f"/sleep/{self.takes}")
            self.in_flight[port] -= 1
            if answer.status == 200:
                self.answered += 1
            else:
                self.lost.append((port, answer))
        for _, connection in connections.values():
            connection.close()

    async def run(self, workers, trouble):
        """Keeps so many requests in flight while the trouble lasts."""
        watching = asyncio.create_task(self.watch())
        working = [asyncio.create_task(self.work(number)) for number in range(workers)]
        try:
            await trouble()
        finally:
            self.stopped = True
            await asyncio.gather(watching, *working)


def is_ready(instance):
    """Whether it says so."""
    with contextlib.suppress(OSError):
        return get(f"http://127.0.0.1:{instance.admin}/readyz", 1.0)[0] == 200
    return False


def test_no_request_of_500_in_flight_is_lost_over_20_rolling_restarts(stack, apps, tmp_path):
    """Rules 84 and 85: no POST is sent twice and none is lost, whichever instance is replaced, and however."""
    applications = [app.port for app in apps(2)]
    instances = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        rest = {"listener": {"role": "inbound"}, "runtime": {"drain": "20s", "workers": 1}}
        instance = Mamparo(folder, applications, {"bulkhead": {"max_in_flight": 600}}, **rest)
        instances.append(stack.enter_context(instance))
    front = Front(instances, takes=1000)
    at_the_end = []

    async def trouble():
        while sum(front.in_flight.values()) < 500 or len(front.ready) < 2:
            await asyncio.sleep(0.05)
        for number in range(20):
            instance, other = instances[number % 2], instances[(number + 1) % 2]
            while front.in_flight[instance.port] < 100:
                await asyncio.sleep(0.05)
            at_the_end.append(front.in_flight[instance.port])
            instance.signal(signal.SIGTERM)
            assert await asyncio.to_thread(instance.wait, 20) == 0
            assert other.running()
            instance.start()
            while len(front.ready) < 2:
                await asyncio.sleep(0.05)

    asyncio.run(front.run(500, trouble))
    assert front.lost == []
    assert len(at_the_end) == 20 and min(at_the_end) >= 100
    assert front.answered > 20 * 100
