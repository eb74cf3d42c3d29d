"""The stage: the origin and the contestants running, and one round of load through one of them."""

import contextlib
import signal
import subprocess

import contestants
import load
from contestants import HERE
from programs import Program, get, render


def write_files(folder):
    """What the origin serves beside its 64 bytes, what a call of gRPC sends, and a certificate."""
    (folder / "1m").write_bytes(bytes(1 << 20))
    message = bytes(range(64))
    (folder / "call").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    place = folder / "tls"
    place.mkdir()
    cert, key = place / "crt", place / "key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    (place / "pem").write_bytes(cert.read_bytes() + key.read_bytes())
    for file in place.iterdir():
        file.chmod(0o644)


@contextlib.contextmanager
def origin(folder, ports, cores=None, workers=1):
    """The nginx behind every proxy, started and answering."""
    config = folder / "origin.conf"
    config.write_text(render(HERE / "origin.conf", ports | {"FOLDER": folder, "WORKERS": workers}))
    command = [contestants.BY_NAME["nginx"].binary(), "-c", config]
    with Program(command, folder / "origin.out", cores) as program:
        yield program.answers(f"http://127.0.0.1:{ports['ORIGIN_A']}/64")


@contextlib.contextmanager
def running(contestant, ports, folder, cores=None, settings=()):
    """The contestant, started and answering."""
    command = contestant.command(ports, folder, settings)
    contestant.access_log(folder).unlink(missing_ok=True)
    with Program(command, contestant.output(folder), cores) as program:
        yield program.answers(f"http://127.0.0.1:{ports['LISTEN']}/64")
        # In order, since a program that keeps a profile of itself writes it then.
        program.signal(signal.SIGTERM)
        program.wait(10)


def origin_counts(ports):
    """Connections that the origin has accepted, and requests that it has had."""
    text = get(f"http://127.0.0.1:{ports['ORIGIN_STATUS']}/")[2].decode()
    accepted, _handled, requests = map(int, text.splitlines()[2].split())
    return accepted, requests


def loaded(program, work, cores, ports, folder, seconds):
    """One run of the load through a running contestant, warmed up before: what it took and what the origin saw."""
    url = work.url(ports)
    load.run(url, work, cores, 1, folder)
    accepted, requests = origin_counts(ports)
    before = program.cpu_seconds()
    result = load.run(url, work, cores, seconds, folder)
    used = program.cpu_seconds() - before
    more_accepted, more_requests = origin_counts(ports)
    return result.with_counts(used, more_accepted - accepted - 1, more_requests - requests - 1)


def measure(contestant, work, place, ports, folder, seconds):
    """One round of one contestant: warm up, then count its processor time around a run of the load."""
    with running(contestant, ports, folder, place.proxy, work.settings) as proxy:
        result = loaded(proxy, work, place.load, ports, folder, seconds)
    if work.logged and (lines := count_lines(contestant.access_log(folder))) < result.requests:
        raise RuntimeError(f"{contestant.name} has logged {lines} of {result.requests} requests")
    return work.checked(contestant.name, result)


def count_lines(path):
    """How many lines a file has."""
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
