"""Many client connections that have had an answer each and say nothing more."""

import contextlib
import os
import resource
import socket
import ssl
import sys
import time

import contestants
import load
import machine
import stage
from programs import Program

MOST = 10_000
# Over TLS: each costs a handshake, on our side in Python.
MOST_TLS = 2_000
REQUEST = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"


def raise_limit():
    """Lets this process, and those that it starts, have all the file descriptors that they may have. How many
    connections a proxy can then hold, with one to the origin for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(MOST, hard // 2 - 400)


def measure(chosen, _rounds, report, folder):
    """Resident memory for each of many connections that have had one answer, and the CPU of a request before and
    beside them; then the same memory where each has had a connection to the origin of its own, which is kept too."""
    ports, place, size = contestants.ports(), machine.place(), raise_limit()
    settings = {"CONNECTIONS": size + 100, "NGINX_CONNECTIONS": 3 * size, "POOL": size, "TRY": 60, "REQUEST": 60}
    settings |= {"IN_FLIGHT": 2 * size, "PER_SERVER": size}
    rows = []

    def told(name, kind, row):
        rows.append((f"{name}, {kind}", *row))
        print(f"idle connections, {', '.join(map(str, rows[-1]))}", file=sys.stderr, flush=True)

    with stage.origin(folder, ports, place.origin):
        for contestant in chosen:
            for kind, port, count in (("plain", "LISTEN", size), ("TLS", "LISTEN_TLS", min(size, MOST_TLS))):
                # A program for each: memory that one kind has left would serve the other.
                with stage.running(contestant, ports, folder, place.proxy, settings) as program:
                    told(contestant.name, kind, one_by_one(program, port, count, place, ports, folder))
    for contestant in chosen:
        with holding(size, ports, folder), stage.running(contestant, ports, folder, place.proxy, settings) as program:
            told(contestant.name, "plain, and one to the origin each", together(program, size, ports))
    tell(rows, report)


def one_by_one(program, port, size, place, ports, folder):
    """Connections that come one after the other, so that few to the origin are needed: bytes for one of them, and the
    CPU of a request before and beside them."""
    work = load.WORKS["get64"]
    alone = stage.loaded(program, work, place.load, ports, folder, 2).cpu_us
    before, files = program.resident_bytes(), open_files(program)
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            connection = stack.enter_context(connect(ports[port], port == "LISTEN_TLS"))
            connection.sendall(REQUEST % b"/64")
            answered(connection)
        time.sleep(1)
        memory, kept = program.resident_bytes() - before, open_files(program) - files - size
        beside = stage.loaded(program, work, place.load, ports, folder, 2).cpu_us
    return size, memory / size, max(0, kept), alone, beside


def together(program, size, ports):
    """Connections whose requests are all in flight at once: bytes for one of them with the one to the origin that it
    needs, and how many of those are kept."""
    before, files = program.resident_bytes(), open_files(program)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(ports["LISTEN"], False)) for _ in range(size)]
        for connection in connections:
            connection.settimeout(60)
            connection.sendall(REQUEST % b"/held")
            time.sleep(0.0001)  # else the origin's backlog would be too small
        for connection in connections:
            if (status := answered(connection)) != 200:
                raise RuntimeError(f"an answer of {status}")
        time.sleep(1)
        return size, (program.resident_bytes() - before) / size, open_files(program) - files - size, None, None


@contextlib.contextmanager
def holding(size, ports, folder):
    """The origin that holds its answers until all requests are there."""
    command = [sys.executable, contestants.HERE / "holding.py", size, ports["ORIGIN_A"], ports["ORIGIN_B"]]
    with Program(command, folder / "holding.out") as program:
        yield program.answers(f"http://127.0.0.1:{ports['ORIGIN_B']}/64")


def open_files(program):
    """File descriptors of all its processes."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in program.processes())


def tell(rows, report):
    """What idle connections cost."""
    report.say(
        "## Idle connections",
        "",
        "Connections that have had one answer each: resident memory for one, connections to the origin that are kept "
        "beside them, and the CPU time of a request without and beside them.",
        "",
    )
    report.table(
        ["", "connections", "KiB each", "to the origin", "µs/request alone", "µs/request beside them"],
        [
            [name, str(size), f"{memory / 1024:.1f}", str(kept), *(f"{us:.1f}" if us else "–" for us in cpu)]
            for name, size, memory, kept, *cpu in rows
        ],
    )
    for name, size, memory, kept, *_ in rows:
        if name.startswith("mamparo") and "origin" in name and kept > size * 0.98:
            report.reached("pair", memory / 1024)


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
