"""Many client connections that have had an answer each and say nothing more."""

import contextlib
import resource
import socket
import ssl

SIZE = 2000
REQUEST = b"GET /64 HTTP/1.1\r\nhost: localhost\r\n\r\n"


def ports(contestant, numbers):
    """The kinds of connection that this contestant takes, by name, and the port of each."""
    yield "plain", numbers["LISTEN"]
    if contestant.name in ("mamparo", "nginx", "haproxy", "envoy"):
        yield "TLS", numbers["LISTEN_TLS"]


@contextlib.contextmanager
def idle(port, encrypted):
    """Holds the connections. They come one after the other, so that few connections to the origin are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, SIZE + 200)), hard))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        for _ in range(SIZE):
            connection = socket.create_connection(("127.0.0.1", port), 5)
            if encrypted:
                connection = context.wrap_socket(connection)
            stack.enter_context(connection)
            connection.sendall(REQUEST)
            answered(connection)
        yield


def answered(connection):
    """Reads the answer to its end."""
    head, _, body = receive(connection, b"").partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body = receive(connection, body)


def receive(connection, before):
    """What came before, and more."""
    more = connection.recv(4096)
    if not more:
        raise ConnectionError("the connection ended within an answer")
    return before + more
