"""Our messages, judged by others: a linter of HTTP, and curl and nginx with `expect: 100-continue`."""

import socket
import subprocess
from types import SimpleNamespace

import pytest
from httplint import HttpResponseLinter, levels

from programs import free_port


def talk(port, request):
    """The bytes that come back until the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request)
        data = b""
        while more := client.recv(65536):
            data += more
    return data


def bad_notes(data, method="GET"):
    """What the linter says is bad about an answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    version, status, phrase = line.split(b" ", 2)
    linter = HttpResponseLinter(no_content=method == "HEAD")
    linter.process_response_topline(version, status, phrase)
    linter.process_headers([tuple(field.split(b": ", 1)) for field in fields])
    if method != "HEAD" and b"transfer-encoding: chunked" not in head:
        linter.feed_content(body)
    linter.finish_content(True)
    return [f"{type(note).__name__}: {note.summary}" for note in linter.notes if note.level is levels.BAD]


REQUESTS = {
    "passed on": b"GET /get/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "HEAD": b"HEAD /get/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "HTTP/1.0": b"GET /get/1 HTTP/1.0\r\n\r\n",
    "malformed": b"GET /get/1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "no HTTP": b"nonsense\r\n\r\n",
    "too large": b"GET /get/1 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    "expectation": b"PUT /x HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 1\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n",
}
# The application knows no HEAD.
STATUSES = dict.fromkeys(REQUESTS, 200) | {
    "HEAD": 405,
    "malformed": 400,
    "no HTTP": 400,
    "too large": 431,
    "expectation": 417,
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_linter_finds_nothing_bad(mamparo, apps, what):
    """Answers of an application and of our own."""
    proxy = mamparo(apps(1))
    answer = talk(proxy.port, REQUESTS[what])
    assert answer.split(b" ")[1] == b"%d" % STATUSES[what], answer
    assert not bad_notes(answer, "HEAD" if what == "HEAD" else "GET"), answer


@pytest.mark.parametrize("policies", [{}, {"fallback": [{"on": ["any"], "respond": {"status": 200, "body": "sorry"}}]}])
@pytest.mark.parametrize("accept", ["*/*", "application/problem+json"])
def test_a_linter_finds_nothing_bad_about_failures(mamparo, policies, accept):
    """An upstream that is not there."""
    proxy = mamparo([SimpleNamespace(port=free_port())], policies)
    request = f"GET / HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    answer = talk(proxy.port, request.encode())
    assert not bad_notes(answer), answer


def curl(port, path, file, *more):
    """What curl says of an upload that asks first, and waits up to ten seconds for the answer."""
    command = ["curl", "-sv", "--expect100-timeout", "10", "-m", "20", "-H", "Expect: 100-continue", "-T", file, *more]
    wanted = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload} %{time_total}"]
    done = subprocess.run([*command, *wanted, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True)
    status, sent, seconds = done.stdout.split()
    return int(status), int(sent), float(seconds), done.stderr


def test_curl_asks_nginx_before_it_sends(mamparo, apps, nginx, tmp_path):
    """Rule 21, fault 22: nginx says what becomes of the body, and curl hears it."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 500_000)
    app = apps(1)[0]
    server = f"""
      server {{ listen @LISTEN@; client_max_body_size 1m; client_body_buffer_size 1m;
        location / {{ proxy_pass http://127.0.0.1:{app.port}; }}
        location /small {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{app.port}; }} }}
    """
    proxy = mamparo([nginx(server)])
    status, sent, seconds, said = curl(proxy.port, "/charge/1", file, "-X", "POST")
    assert (status, sent) == (200, 500_000), said
    assert "100 Continue" in said and seconds < 5, said
    status, sent, seconds, said = curl(proxy.port, "/small/1", file, "-X", "POST")
    assert (status, sent) == (413, 0), said
    assert "100 Continue" not in said and seconds < 5, said
