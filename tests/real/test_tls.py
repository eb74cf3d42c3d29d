"""TLS on both sides among other implementations: curl, openssl, nginx. Certificates are made by openssl."""

import socket
import subprocess
import threading
import time

import pytest

from programs import Program, free_port, program_path, wait_until
from services import Mamparo, config_of, listens

SAN = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Authority:
    """A certificate authority made by the command line of openssl; `folder` holds all that it makes."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        folder.mkdir(exist_ok=True)
        self.cert = folder / f"{name}.crt"
        self.openssl("req", "-x509", *EC, "-nodes", "-keyout", f"{name}.key", "-out", self.cert, "-days", 3650)
        (folder / "index").write_text("")
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\nserial=serial\ndefault_md=sha256\n"
            "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )

    def openssl(self, command, *arguments):
        """Runs openssl in the folder; requests are named after the authority unless told otherwise."""
        rest = list(arguments)
        if command == "req" and "-subj" not in rest:
            rest += ["-subj", f"/CN={self.name}"]
        done = subprocess.run(
            [program_path("openssl"), command, *map(str, rest)], cwd=self.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def issue(self, name, days=90, san=SAN, key=None, dates=None):
        """A certificate and its key, as two paths. `dates`: from and to, as openssl writes them."""
        key = key or EC
        self.openssl("req", *key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / f"{name}.ext").write_text(f"[e]\n{san}\n" if san else "[e]\nbasicConstraints=CA:FALSE\n")
        from_to = ["-startdate", dates[0], "-enddate", dates[1]] if dates else ["-days", days]
        sign = ["-batch", "-notext", "-config", "ca.cnf", "-cert", self.cert, "-keyfile", f"{self.name}.key"]
        extensions = ["-extensions", "e", "-extfile", f"{name}.ext"]
        self.openssl("ca", *sign, "-in", f"{name}.csr", "-out", f"{name}.crt", *from_to, *extensions)
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"


EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


@pytest.fixture
def authority(tmp_path):
    """An authority for the servers."""
    return Authority(tmp_path / "pki")


@pytest.fixture
def secure(stack, tmp_path, authority):
    """Starts mamparo with a listener under TLS; the certificate's files are `tls.crt` and `tls.key` of the folder."""

    def start(port, tls=None, listener=None, upstream=None):
        cert, key = authority.issue("first")
        put(tmp_path / "tls.crt", cert)
        put(tmp_path / "tls.key", key)
        own = {"cert": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key")} | (tls or {})
        proxy = Mamparo(tmp_path, [port], upstream)
        listeners = {"in": {"address": f"127.0.0.1:{proxy.port}", "upstream": "app", "tls": own} | (listener or {})}
        proxy.write(config_of(proxy.port, proxy.admin, [port], upstream, listeners=listeners))
        stack.enter_context(proxy)
        stack.callback(lambda: check_no_panic(proxy))
        return proxy

    return start


def check_no_panic(proxy):
    """A panic is a bug, whatever the test was about."""
    assert "panicked at" not in proxy.output(), proxy.output()


def put(path, source):
    """Puts a copy of a file in the place of another at once."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(source.read_bytes())
    fresh.replace(path)


def curl(*arguments):
    """Exit code and output of curl: the body, then a line with status and version."""
    done = subprocess.run(
        [program_path("curl"), "-sS", "-m", "10", "-w", "\n%{http_code} %{http_version}", *map(str, arguments)],
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def s_client(port, *arguments, send=b""):
    """What `openssl s_client` says of a connection."""
    done = subprocess.run(
        [program_path("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *map(str, arguments)],
        input=send,
        capture_output=True,
        check=False,
        timeout=20,
    )
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def hello(nginx):
    """A plain upstream."""
    return nginx('server { listen @LISTEN@; location / { return 200 "$http_x_forwarded_proto"; } }')


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_comes_under_tls_and_is_https_for_the_upstream(secure, nginx, authority, version):
    """TLS 1.2 and 1.3; what is older is refused."""
    proxy = secure(hello(nginx).port)
    url = f"https://localhost:{proxy.port}/"
    code, out, error = curl("--cacert", authority.cert, f"--tlsv{version}", "--tls-max", version, url)
    assert code == 0, error
    assert out.startswith("https\n200 "), out
    code, out, _ = curl("--http1.1", "--cacert", authority.cert, url, url)
    assert (code, out.count("200 1.1")) == (0, 2)
    old = s_client(proxy.port, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in old and "alert" in old, old
    assert proxy.metric("mamparo_tls_handshake_failures_total", listener="in", why="incompatible") == 1
    assert "Verification error" in s_client(proxy.port, "-verify_return_error"), "our authority is not the system's"


def test_client_certificates(secure, nginx, authority, tmp_path):
    """Fault 62: none, a foreign one and an expired one are refused and counted; the right one is let in."""
    clients = Authority(tmp_path / "clients", "clients")
    proxy = secure(hello(nginx).port, {"client_ca": str(clients.cert)})
    url = f"https://localhost:{proxy.port}/"
    trust = ("--cacert", authority.cert)
    assert curl(*trust, url)[0] != 0
    foreign = authority.issue("foreign")
    assert curl(*trust, "--cert", foreign[0], "--key", foreign[1], url)[0] != 0
    # The log has one line of these a second.
    time.sleep(1.1)
    late = clients.issue("late", dates=("20200101000000Z", "20210101000000Z"))
    assert curl(*trust, "--cert", late[0], "--key", late[1], url)[0] != 0
    right = clients.issue("right")
    code, out, error = curl(*trust, "--cert", right[0], "--key", right[1], url)
    assert code == 0, error
    assert "\n200" in out
    failures = "mamparo_tls_handshake_failures_total"
    assert proxy.metric(failures, listener="in", why="no_certificate") == 1
    assert proxy.metric(failures, listener="in", why="bad_certificate") == 2
    assert "the client's certificate expired on 2021-01-01" in proxy.output()


def test_openssl_negotiates_resumes_and_cannot_renegotiate(secure, nginx, authority):
    """Fault 65: ALPN without a common protocol, no server name, sessions, renegotiation, early data."""
    proxy = secure(hello(nginx).port, listener={"protocol": "http1"})
    trust = ("-CAfile", authority.cert, "-verify_return_error")
    seen = s_client(proxy.port, *trust, "-alpn", "http/1.1", "-servername", "localhost")
    assert "ALPN protocol: http/1.1" in seen, seen
    assert "Max Early Data: 0" in seen or "Max Early Data" not in seen, seen
    assert "no application protocol" in s_client(proxy.port, *trust, "-alpn", "imap").lower()
    assert "Verify return code: 0 (ok)" in s_client(proxy.port, *trust, "-noservername")
    for version in ("-tls1_2", "-tls1_3"):
        session = authority.folder / f"session{version}"
        request = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
        s_client(proxy.port, *trust, version, "-sess_out", session, "-ign_eof", send=request)
        again = s_client(proxy.port, *trust, version, "-sess_in", session, "-ign_eof", send=request)
        assert "Reused, TLSv1" in again, again
    # `R` asks for a new handshake; it is refused, and the connection does not hang.
    refused = s_client(proxy.port, *trust, "-tls1_2", send=b"R\n")
    assert "RENEGOTIATING" in refused
    assert "no renegotiation" in refused.lower(), refused
    assert curl("--cacert", authority.cert, f"https://localhost:{proxy.port}/")[0] == 0


def test_a_handshake_one_byte_at_a_time_is_cut(secure, nginx, authority):
    """Fault 64."""
    proxy = secure(hello(nginx).port, listener={"timeouts": {"header": "500ms"}})
    begin = time.monotonic()
    slow = socket.create_connection(("127.0.0.1", proxy.port))
    with slow, pytest.raises(OSError):
        slow.sendall(b"\x16\x03\x01\x02\x00\x01")
        while time.monotonic() - begin < 10:
            slow.sendall(b"\x00")
            time.sleep(0.02)
            assert curl("--cacert", authority.cert, f"https://localhost:{proxy.port}/")[0] == 0
    assert time.monotonic() - begin < 5
    assert proxy.metric("mamparo_tls_handshake_failures_total", why="timeout") == 1


def test_no_request_is_lost_while_certificates_are_swapped(secure, nginx, authority, tmp_path):
    """Fault 63: 20 swaps under load, with new connections and kept ones; between them pairs that do not match."""
    proxy = secure(hello(nginx).port)
    url = f"https://localhost:{proxy.port}/"
    outcomes, stop = [], threading.Event()

    def load(*options):
        while not stop.is_set():
            code, out, error = curl("--cacert", authority.cert, *options, *[url] * 5)
            outcomes.append((code, out.count("\n200 "), error))

    kept = threading.Thread(target=load, args=("--http1.1",))
    fresh = threading.Thread(target=load, args=("--http1.1", "-H", "connection: close"))
    pairs = [authority.issue(f"swap{number}") for number in range(4)]
    kept.start()
    fresh.start()
    for number in range(20):
        cert, key = pairs[number % 4]
        put(tmp_path / "tls.key", key)
        # Time enough for the pair that does not match to be read.
        time.sleep(0.15)
        put(tmp_path / "tls.crt", cert)
        wait_until(lambda name=cert.stem: f"CN = {name}" in s_client(proxy.port), 5, f"{cert.stem} is shown")
    stop.set()
    kept.join()
    fresh.join()
    assert len(outcomes) > 20
    assert [bad for bad in outcomes if bad[:2] != (0, 5)] == []
    events = [event["text"] for event in proxy.status()["events"]]
    assert any("were not swapped" in text for text in events), events
    assert proxy.status()["certificates"][0]["problem"] is None


def tls_server(port, pair, more=""):
    """A server block of nginx under TLS."""
    return (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pair[0]}; ssl_certificate_key {pair[1]}; {more}"
        ' location / { return 200 "$ssl_protocol $ssl_server_name $ssl_client_s_dn"; } }\n'
    )


def test_what_is_wrong_with_endpoints_is_spelt_out(stack, nginx, authority, tmp_path):
    """Fault 61, with nginx at the other end."""
    here = "expired early wrong unnamed unknown self weak old plain"
    ports = {name: free_port() for name in here.split()}
    other = Authority(tmp_path / "other", "other")
    self_signed = (tmp_path / "self.crt", tmp_path / "self.key")
    authority.openssl("req", "-x509", *EC, "-nodes", "-keyout", self_signed[1], "-out", self_signed[0], "-addext", SAN)
    good = authority.issue("good")
    blocks = {
        "expired": tls_server(
            ports["expired"], authority.issue("expired", dates=("20200101000000Z", "20261101000000Z"))
        ),
        "early": tls_server(ports["early"], authority.issue("early", dates=("20900101000000Z", "20910101000000Z"))),
        "wrong": tls_server(ports["wrong"], authority.issue("wrong", san="subjectAltName=DNS:a.example")),
        "unnamed": tls_server(ports["unnamed"], authority.issue("unnamed", san=None)),
        "unknown": tls_server(ports["unknown"], other.issue("unknown")),
        "self": tls_server(ports["self"], self_signed),
        "old": tls_server(ports["old"], good, "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"),
        "plain": f"server {{ listen 127.0.0.1:{ports['plain']}; }}\n",
        "weak": tls_server(
            ports["weak"], authority.issue("weak", key=["-newkey", "rsa:1024"]), "ssl_ciphers ALL:@SECLEVEL=0;"
        ),
    }
    nginx("server { listen @LISTEN@; }\n" + "".join(blocks.values()))
    words = {
        "expired": "expired on 2026-11-01",
        "early": "is not valid before 2090-01-01",
        "wrong": "is not for '127.0.0.1' but for a.example",
        "unnamed": "has no names",
        "unknown": "was issued by 'CN=other', who is not trusted by",
        "self": "is self-signed",
        "old": "speaks neither TLS 1.2 nor TLS 1.3",
        "plain": "does not speak TLS on this port",
        "weak": "has an RSA key of 1024 bits, which is too weak",
    }
    proxy = Mamparo(tmp_path, [1])
    routes = [{"match": {"path_prefix": f"/{name}"}, "upstream": name} for name in words]
    upstreams = {
        name: {"endpoints": [f"https://127.0.0.1:{ports[name]}"], "tls": {"ca": str(authority.cert)}} for name in words
    }
    listeners = {"out": {"address": f"127.0.0.1:{proxy.port}", "routes": routes}}
    proxy.write(config_of(proxy.port, proxy.admin, [1], listeners=listeners, upstreams=upstreams))
    stack.enter_context(proxy)
    for name, expected in words.items():
        code, out, error = curl(f"http://127.0.0.1:{proxy.port}/{name}")
        assert code == 0, error
        assert '"reason":"tls_failure"' in out and expected in out, (name, out)
        assert "\n502 " in out


def test_our_certificate_is_shown_and_its_name_asked_for(stack, nginx, authority, tmp_path):
    """nginx sees the name that was asked for and who we are; it takes connections again and again."""
    clients = Authority(tmp_path / "clients", "clients")
    identity = clients.issue("orders")
    pair = authority.issue("server", san="subjectAltName=DNS:payments.internal")
    port = free_port()
    demand = f"ssl_client_certificate {clients.cert}; ssl_verify_client on;"
    nginx("server { listen @LISTEN@; }\n" + tls_server(port, pair, demand))
    tls = {"ca": str(authority.cert), "server_name": "payments.internal"}
    tls |= {"cert": str(identity[0]), "key": str(identity[1])}
    upstream = {"endpoints": [f"https://127.0.0.1:{port}"], "tls": tls}
    proxy = stack.enter_context(Mamparo(tmp_path, [port], upstream))
    url = f"http://127.0.0.1:{proxy.port}/"
    code, out, error = curl(url, url, url)
    assert code == 0, error
    assert out.count(" payments.internal CN=orders\n200") == 3, out


def test_an_endpoint_that_wants_a_certificate_says_so_by_an_alert(stack, authority, tmp_path):
    """openssl judges after the handshake (TLS 1.3) or within it (1.2): either way it is `tls_failure`."""
    cert, key = authority.issue("server")
    for version, words in (("-tls1_3", "requires a certificate of ours"), ("-tls1_2", "may require a certificate")):
        port = free_port()
        command = [
            "openssl",
            "s_server",
            "-accept",
            f"127.0.0.1:{port}",
            "-cert",
            cert,
            "-key",
            key,
            "-CAfile",
            authority.cert,
        ]
        server = Program([*command, "-Verify", "1", "-www", "-quiet", version], tmp_path / f"s_server{version}.log")
        stack.enter_context(server).ready(lambda port=port: listens(port))
        upstream = {"endpoints": [f"https://127.0.0.1:{port}"], "tls": {"ca": str(authority.cert)}}
        folder = tmp_path / version
        folder.mkdir()
        proxy = stack.enter_context(Mamparo(folder, [port], upstream))
        _, out, _ = curl(f"http://127.0.0.1:{proxy.port}/")
        assert '"reason":"tls_failure"' in out and words in out, out
