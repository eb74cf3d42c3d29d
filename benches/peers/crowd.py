"""Many client connections that have had an answer each and say nothing more."""

import contextlib
import resource
import socket
import ssl
import time

import contestants
import load
import machine
import stage

SIZE = 2000
REQUEST = b"GET /64 HTTP/1.1\r\nhost: localhost\r\n\r\n"


def measure(chosen, _rounds, report, folder):
    """Resident memory for each of many connections that have had one answer, and the CPU of a request before and
    beside them."""
    ports, place, work = contestants.ports(), machine.place(), load.WORKS["get64"]
    found = {}
    with stage.origin(folder, ports, place.origin):
        for contestant in chosen:
            row = found[contestant.name] = {}
            for kind, port in (("plain", "LISTEN"), ("TLS", "LISTEN_TLS")):
                # A program for each: memory that one kind has left would serve the other.
                with stage.running(contestant, ports, folder, place.proxy) as program:
                    row["alone", kind] = stage.loaded(program, work, place.load, ports, folder, 3).cpu_us
                    before = program.resident_bytes()
                    with idle(ports[port], encrypted=kind == "TLS"):
                        time.sleep(1)
                        row["memory", kind] = (program.resident_bytes() - before) / SIZE
                        row["beside", kind] = stage.loaded(program, work, place.load, ports, folder, 3).cpu_us
    tell(found, report)


def tell(found, report):
    """What idle connections cost."""
    report.say(
        "## Idle connections",
        "",
        f"{SIZE} connections that have had one answer each: resident memory for one, and the CPU time of a request "
        "without and beside them.",
        "",
    )
    rows = [
        [f"{name}, {kind}", f"{memory / 1024:.1f}", f"{row['alone', kind]:.1f}", f"{row['beside', kind]:.1f}"]
        for name, row in found.items()
        for (what, kind), memory in row.items()
        if what == "memory"
    ]
    report.table(["", "KiB each", "µs/request alone", "µs/request beside them"], rows)


@contextlib.contextmanager
def idle(port, encrypted):
    """Holds the connections. They come one after the other, so that few connections to the origin are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, SIZE + 200)), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(SIZE):
            connection = stack.enter_context(connect(port, encrypted))
            connection.sendall(REQUEST)
            answered(connection)
        yield


def connect(port, encrypted):
    """A new connection."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return TLS.wrap_socket(connection) if encrypted else connection


def answered(connection):
    """Reads the answer to its end and returns its status."""
    head, _, body = receive(connection, b"").partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    missing = length - len(body)
    while missing > 0:
        missing -= len(receive(connection, b""))
    return int(lines[0].split()[1])


def receive(connection, before):
    """What came before, and more."""
    more = connection.recv(1 << 16)
    if not more:
        raise ConnectionError("the connection ended within an answer")
    return before + more


def _trusting():
    """TLS that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


TLS = _trusting()
