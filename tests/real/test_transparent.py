"""Transparent mode: iptables redirects what a client sends anywhere, and mamparo asks the kernel where it was going."""

import json
import os
import signal
import subprocess
import sys
import uuid

import pytest

from programs import Program, mamparo_binary, program_path, wait_until

# Who the redirection leaves out: mamparo itself, by its group.
GROUP = 4321
PORT, ADMIN = 15001, 15002
NETWORK, NETWORK6 = "10.99.0.0/24", "fd99::/64"
# What clients go to: an HTTP service, another one that no route knows, and one that speaks first.
SHOP, OTHER, MAIL = "10.99.0.1", "10.99.0.2", "10.99.0.3"
OTHER6 = "fd99::2"

GET = "GET /a HTTP/1.1\r\nhost: {}\r\n\r\n"

SERVER = """
import socket, socketserver, sys, time
class Http(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            head = [line]
            while (line := self.rfile.readline()) not in (b"\\r\\n", b""):
                head.append(line)
            body = sys.argv[3].encode() + b" " + b"".join(head)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
            if b"connection: close\\r\\n" in head:
                return
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        if sys.argv[3] == "greets":
            self.wfile.write(b"220 welcome\\r\\n")
        while data := self.request.recv(4096):
            self.wfile.write(data)
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    allow_reuse_address = True
    daemon_threads = True
Server((sys.argv[1], int(sys.argv[2])), Http if sys.argv[3] in ("shop", "other") else Echo).serve_forever()
"""

CLIENT = """
import socket, sys
host, port, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[4])
text = sys.argv[3].encode().decode("unicode_escape")
with socket.create_connection((host, port), 10) as it:
    it.settimeout(10)
    if text:
        it.sendall(text.encode("latin1"))
    seen = b""
    while len(seen) < wanted or wanted == 0:
        data = it.recv(65536)
        if not data:
            break
        seen += data
    sys.stdout.buffer.write(seen)
"""


class Namespace:
    """A network of its own, in which everything to `NETWORK`, and to `NETWORK6` if asked, is redirected to mamparo."""

    def __init__(self, ipv6=False):
        self.ipv6 = ipv6
        self.name = f"mamparo-{uuid.uuid4().hex[:8]}"

    def __enter__(self):
        self.ip("netns", "add", self.name)
        try:
            self.run("ip", "link", "set", "lo", "up")
            for address in (SHOP, OTHER, MAIL):
                self.run("ip", "address", "add", f"{address}/32", "dev", "lo")
            if self.ipv6:
                self.run("ip", "address", "add", f"{OTHER6}/128", "dev", "lo", "nodad")
            self.redirect("-A")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.ip("netns", "delete", self.name)

    def ip(self, *command):
        """Runs `ip` outside."""
        subprocess.run([program_path("ip"), *command], check=True, capture_output=True, timeout=20)

    def inside(self, *command):
        """The command that runs this one inside."""
        return [program_path("ip"), "netns", "exec", self.name, *command]

    def run(self, *command):
        """Runs a command inside and returns what it printed."""
        done = subprocess.run(self.inside(*command), check=True, capture_output=True, timeout=30)
        return done.stdout

    def redirect(self, action, spare=True):
        """Adds or removes the redirection; without `spare` it catches mamparo too."""
        owner = ["-m", "owner", "!", "--gid-owner", str(GROUP)] if spare else []
        rule = [*owner, "-j", "REDIRECT", "--to-ports", str(PORT)]
        both = [("iptables", NETWORK), ("ip6tables", NETWORK6)]
        for command, network in both if self.ipv6 else both[:1]:
            self.run(command, "-w", "-t", "nat", action, "OUTPUT", "-p", "tcp", "-d", network, *rule)


def why_not(ipv6=False):
    """Why no such namespace can be made here; nothing if it can."""
    if os.geteuid() != 0:
        return "making a network namespace with iptables takes root"
    try:
        with Namespace(ipv6):
            return None
    except (subprocess.SubprocessError, FileNotFoundError) as error:
        said = getattr(error, "stderr", None) or b""
        kind = "ip6tables" if ipv6 else "iptables"
        return f"no network namespace with {kind} here: {error} {said.decode(errors='replace')}".strip()


REASON = why_not()
REASON6 = REASON or why_not(ipv6=True)
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class Redirected:
    """mamparo in a namespace, with the services behind it."""

    def __init__(self, stack, folder, unmatched="pass", ipv6=False, **listener):
        self.net = stack.enter_context(Namespace(ipv6))
        config = {
            "admin": {"address": f"127.0.0.1:{ADMIN}"},
            "runtime": {"drain": "2s", "workers": 2},
            "access_log": {"destination": "off"},
            "listeners": {
                "outbound": {
                    "address": f"0.0.0.0:{PORT}",
                    "original_dst": True,
                    "unmatched": unmatched,
                    "routes": [{"match": {"host": "shop.internal"}, "upstream": "shop"}],
                }
                | listener
            },
            "upstreams": {"shop": {"endpoints": [f"{SHOP}:80"], "retry": {}, "bulkhead": {}}},
        }
        path = folder / "mamparo.yaml"
        path.write_text(json.dumps(config))
        binary = mamparo_binary("debug", "release")
        as_group = ["setpriv", f"--regid={GROUP}", "--clear-groups"]
        command = self.net.inside(*as_group, binary, "run", "--config", path, "--log", "debug")
        servers = [(SHOP, 80, "shop"), (OTHER, 80, "other"), (MAIL, 25, "greets"), (OTHER, 99, "echo")]
        if ipv6:
            servers += [(OTHER6, 80, "other"), (OTHER6, 99, "echo")]
        for address, port, kind in servers:
            server = self.net.inside(sys.executable, "-c", SERVER, address, str(port), kind)
            stack.enter_context(Program(server, folder / f"{kind}-{address}.log"))
        self.program = stack.enter_context(Program(command, folder / "mamparo.log"))
        self.program.ready(lambda: "admin listening" in self.program.output())
        self.program.ready(lambda: b"shop" in self.ask(OTHER, 80, GET.format("shop.internal"), 60, check=False))
        self.routed = self.metric("mamparo_requests_total")

    def ask(self, host, port, text, wanted, check=True):
        """What a client inside gets: at least so many bytes, or all to the end for 0."""
        quoted = text.encode("unicode_escape").decode()
        command = self.net.inside(sys.executable, "-c", CLIENT, host, str(port), quoted, str(wanted))
        done = subprocess.run(command, check=False, capture_output=True, timeout=30)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout

    def admin(self, path):
        """What the admin interface says."""
        return self.net.run("curl", "-sS", f"http://127.0.0.1:{ADMIN}{path}").decode()

    def metric(self, name):
        """The sum of a metric's samples."""
        lines = [line for line in self.admin("/metrics").splitlines() if line.startswith(name + "{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_requests_are_routed_by_host_wherever_they_were_sent(stack, tmp_path):
    """A route's request gets its policies; the client believes that it speaks to whom it called."""
    it = Redirected(stack, tmp_path)
    answer = it.ask(OTHER, 80, GET.format("shop.internal"), 100)
    assert b"shop GET /a HTTP/1.1" in answer
    assert b"x-request-id" in answer and b"x-forwarded-for" in answer
    assert it.metric("mamparo_requests_total") == it.routed + 1


def test_what_no_route_matches_passes_untouched(stack, tmp_path):
    """Requests, later ones of a connection too, TLS, and protocols in which the server speaks first."""
    it = Redirected(stack, tmp_path)
    passed = it.metric("mamparo_passed_connections_total")
    answer = it.ask(OTHER, 80, GET.format("other.internal"), 60)
    assert answer.endswith(b"other GET /a HTTP/1.1\r\nhost: other.internal\r\n"), "not a byte was added"
    # Pipelined: the first is for a route, the second is not, and takes the connection along.
    last = GET.format("other.internal\r\nconnection: close")
    answer = it.ask(OTHER, 80, GET.format("shop.internal") + GET.format("other.internal") + last, 0)
    assert answer.count(b"shop GET /a") == 1 and answer.count(b"other GET /a") == 2
    assert it.ask(MAIL, 25, "", 13) == b"220 welcome\r\n"
    hello = "\x16\x03\x01\x00\x05hello"
    assert it.ask(OTHER, 99, hello, 10) == hello.encode("latin1")
    assert it.ask(OTHER, 99, "PING\r\n", 6) == b"PING\r\n"
    wait_until(lambda: it.metric("mamparo_passed_connections_total") == passed + 5, 5, "five connections passed")
    wait_until(lambda: it.metric("mamparo_passed_connections") == 0, 5, "none of them is left")
    assert it.metric("mamparo_requests_total") == it.routed + 1
    status = json.loads(it.admin("/api/v1/status"))
    assert [one["connections"] for one in status["listeners"]] == [0]


def test_http2_is_served_or_passed_as_a_whole(stack, tmp_path):
    """Requests share a connection, so that none of them can be passed on; unless HTTP/2 is not spoken here at all."""
    it = Redirected(stack, tmp_path)
    curl = ["curl", "-sS", "-i", "--http2-prior-knowledge", "--connect-to", f"::{OTHER}:80"]
    answer = it.net.run(*curl, "http://shop.internal/a").decode()
    assert answer.startswith("HTTP/2 200") and "shop GET /a HTTP/1.1" in answer
    answer = it.net.run(*curl, "http://other.internal/a").decode()
    assert answer.startswith("HTTP/2 404") and "no_route" in answer
    assert it.metric("mamparo_passed_connections_total") == 0


def test_http2_passes_where_it_is_not_spoken(stack, tmp_path):
    """With `protocol: http1` it is another protocol."""
    it = Redirected(stack, tmp_path, protocol="http1")
    preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert it.ask(OTHER, 99, preface, len(preface)) == preface.encode()
    assert it.metric("mamparo_passed_connections_total") == 1


@pytest.mark.skipif(REASON6 is not None, reason=str(REASON6))
def test_ipv6_is_redirected_alike(stack, tmp_path):
    """One listener on every address: what ip6tables sends to it, and what iptables does."""
    it = Redirected(stack, tmp_path, ipv6=True, address=f"[::]:{PORT}")
    for host in (OTHER6, OTHER):
        assert b"shop GET /a" in it.ask(host, 80, GET.format("shop.internal"), 100)
        answer = it.ask(host, 80, GET.format("other.internal"), 60)
        assert answer.endswith(b"other GET /a HTTP/1.1\r\nhost: other.internal\r\n"), "not a byte was added"
        assert it.ask(host, 99, "PING\r\n", 6) == b"PING\r\n"
    assert it.metric("mamparo_passed_connections_total") == 4
    assert it.metric("mamparo_requests_total") == it.routed + 2
    # Caught by its own redirection, a connection comes back.
    it.net.redirect("-I", spare=False)
    assert b"PING" not in it.ask(OTHER6, 99, "PING\r\n", 0, check=False)
    wait_until(lambda: "has come back" in it.program.output(), 5, "the loop is told")
    wait_until(lambda: it.metric("mamparo_passed_connections") == 0, 5, "nothing of it is left")


def test_unmatched_refuse_lets_nothing_past_the_configuration(stack, tmp_path):
    """Only what the configuration allows is reachable."""
    it = Redirected(stack, tmp_path, unmatched="refuse")
    answer = it.ask(OTHER, 80, GET.format("other.internal"), 12)
    assert answer.startswith(b"HTTP/1.1 404") and b"no_route" in answer
    assert b"shop GET /a" in it.ask(OTHER, 80, GET.format("shop.internal"), 100)
    answer = it.ask(OTHER, 99, "PING\r\n", 0, check=False)
    assert b"PING" not in answer
    assert it.metric("mamparo_passed_connections_total") == 0


def test_a_connection_that_comes_back_is_refused_and_told(stack, tmp_path):
    """A redirection that catches mamparo too is a loop: it is broken at its second round, and said."""
    it = Redirected(stack, tmp_path)
    it.net.redirect("-I", spare=False)
    assert b"PING" not in it.ask(OTHER, 99, "PING\r\n", 0, check=False)
    wait_until(lambda: "has come back" in it.program.output(), 5, "the loop is told")
    wait_until(lambda: it.metric("mamparo_passed_connections") == 0, 5, "nothing of it is left")
    it.net.redirect("-D", spare=False)
    assert it.ask(OTHER, 99, "PING\r\n", 6) == b"PING\r\n"


def test_a_client_that_was_not_redirected_is_no_loop(stack, tmp_path):
    """Whoever calls the listener itself is served by the routes, and has nowhere to pass to."""
    it = Redirected(stack, tmp_path)
    assert b"shop GET /a" in it.ask("127.0.0.1", PORT, GET.format("shop.internal"), 100)
    answer = it.ask("127.0.0.1", PORT, GET.format("other.internal"), 12)
    assert answer.startswith(b"HTTP/1.1 404") and b"no_route" in answer


def test_passed_connections_are_drained(stack, tmp_path):
    """At SIGTERM they have until the drain ends (fault 69)."""
    it = Redirected(stack, tmp_path)
    command = it.net.inside(sys.executable, "-c", CLIENT, OTHER, "99", "\\x16hello", "0")
    client = stack.enter_context(Program(command, tmp_path / "client.log"))
    wait_until(lambda: it.metric("mamparo_passed_connections") == 1, 10, "it is passed on")
    it.program.signal_all(signal.SIGTERM)
    wait_until(lambda: "draining" in it.program.output(), 5, "the drain begins")
    assert client.running()
    assert it.program.wait(10) == 0
    wait_until(lambda: not client.running(), 5, "its connection was cut")
    assert "connections were cut" in it.program.output()
