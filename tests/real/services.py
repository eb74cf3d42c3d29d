"""The programs of these tests, each with its command line and its ports: mamparo, the application, the relay, nginx."""

import json
import shutil
import signal
import sys
import tempfile
import urllib.parse
from pathlib import Path

from programs import Program, free_port, get, get_json, mamparo_binary, program_path, wait_until

HERE = Path(__file__).resolve().parent


def config_of(port, admin, endpoints, upstream=None, listener=None, **rest):
    """A configuration with one listener and one upstream, `app`; `upstream` adds policies, `listener` keys of the
    listener, `rest` other top keys."""
    return {
        "service": "real",
        "admin": {"address": f"127.0.0.1:{admin}"},
        "access_log": {"destination": "off"},
        "listeners": {"outbound": {"address": f"127.0.0.1:{port}", "upstream": "app"} | (listener or {})},
        "upstreams": {"app": {"endpoints": [f"127.0.0.1:{port}" for port in endpoints]} | (upstream or {})},
    } | rest


class Mamparo(Program):
    """`mamparo run` with a configuration made here; JSON is YAML."""

    def __init__(self, folder, endpoints, upstream=None, **rest):
        self.port, self.admin = free_port(), free_port()
        self.config = Path(folder) / "mamparo.yaml"
        self.write(config_of(self.port, self.admin, endpoints, upstream, **rest))
        super().__init__(
            [mamparo_binary("debug", "release"), "run", "--config", self.config], Path(folder) / "mamparo.log"
        )

    def __enter__(self):
        return self.start().answers(f"http://127.0.0.1:{self.admin}/readyz")

    def write(self, config):
        """Replaces the configuration file in one step, as an editor or a deployment would."""
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    def status(self):
        """What the admin interface says of everything."""
        return get_json(f"http://127.0.0.1:{self.admin}/api/v1/status")

    def metrics(self):
        """The metrics in Prometheus' text format."""
        return get(f"http://127.0.0.1:{self.admin}/metrics")[2].decode()

    def metric(self, name, **labels):
        """The sum of all samples of a metric that carry these labels."""
        return sum_of(self.metrics(), name, **labels)


class Mounted(Mamparo):
    """`mamparo run` with its file in a volume as the kubelet makes one of a ConfigMap: the file is a link into
    `..data`, which is a link to a folder of this version, and an update swaps that link and removes the old folder."""

    def write(self, config):
        """Swaps the link `..data` to a folder with the new file."""
        volume = self.config.parent
        old, link = (volume / "..data").resolve(), volume / "..data_tmp"
        new = Path(tempfile.mkdtemp(prefix="..2026_", dir=volume))
        (new / self.config.name).write_text(json.dumps(config))
        link.symlink_to(new.name)
        link.replace(volume / "..data")
        if self.config.is_symlink():
            shutil.rmtree(old)
        else:
            self.config.symlink_to(f"..data/{self.config.name}")


def sum_of(metrics, name, **labels):
    """The sum of all samples of a metric that carry these labels, in Prometheus' text format."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    total = 0.0
    for line in metrics.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(label in series for label in wanted):
            total += float(value)
    return total


class App(Program):
    """The FastAPI application under uvicorn. Instances that share a folder share the file of executions."""

    def __init__(self, folder, name="app"):
        self.port = free_port()
        super().__init__(
            [sys.executable, "-m", "uvicorn", "upstream:app", "--port", self.port, "--backlog", 512]
            + ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-graceful-shutdown", 5],
            Path(folder) / f"{name}-{self.port}.log",
            env={"EXECUTIONS": str(Path(folder) / "executions")},
            cwd=HERE,
        )

    def __enter__(self):
        return self.start().until_up()

    def until_up(self):
        """Waits until it answers."""
        return self.answers(f"http://127.0.0.1:{self.port}/get/ready")

    def restart(self, number=signal.SIGKILL):
        """Ends it with a signal, and starts it again on the same port."""
        self.signal(number)
        self.wait(15)
        return self.start().until_up()


class Calls(Program):
    """The gRPC service."""

    def __init__(self, folder):
        self.port = free_port()
        super().__init__([sys.executable, HERE / "grpc_service.py", self.port], Path(folder) / f"calls-{self.port}.log")

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))

    def restart(self, number):
        """Ends it with a signal, and starts it again on the same port."""
        self.signal(number)
        self.wait(15)
        return self.start().ready(lambda: listens(self.port))


class Relay(Program):
    """The relay that injects resets before an application."""

    def __init__(self, folder, upstream, seed):
        self.port = free_port()
        super().__init__(
            [sys.executable, HERE / "relay.py", self.port, upstream, seed], Path(folder) / f"relay-{seed}.log"
        )

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))

    def injected(self):
        """Ends it; how often it injected each fault."""
        self.signal(signal.SIGTERM)
        self.wait(10)
        return json.loads(self.output().splitlines()[-1])


class Nginx(Program):
    """nginx with a server block written by the test."""

    def __init__(self, folder, http, name="nginx"):
        self.port = free_port()
        own = Path(folder) / f"{name}-{self.port}"
        own.mkdir()
        own.chmod(0o755)
        temporary = "".join(
            f"{kind}_temp_path {own}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = own / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 1; pid {own}/pid; error_log {own}/error.log;\n"
            f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; {temporary}\n"
            + http.replace("@LISTEN@", f"127.0.0.1:{self.port}")
            + "\n}\n"
        )
        super().__init__([program_path("nginx"), "-c", config], own / "output.log")

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))

    def restart(self):
        """Ends it in order, and starts it again on the same port."""
        self.signal(signal.SIGQUIT)
        self.wait(15)
        return self.start().ready(lambda: listens(self.port))


class Nghttpd(Program):
    """nghttpd with the files of a folder, in plaintext, so many streams at a time."""

    def __init__(self, folder, files, streams):
        self.port = free_port()
        arguments = ["--no-tls", "--address=127.0.0.1", f"--max-concurrent-streams={streams}", f"--htdocs={files}"]
        super().__init__(
            [program_path("nghttpd"), *arguments, str(self.port)], Path(folder) / f"nghttpd-{self.port}.log"
        )

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))


class Prometheus(Program):
    """Prometheus, scraping each job's programs every second; `rules` are files of rules, evaluated as often."""

    def __init__(self, folder, jobs, rules=()):
        self.port = free_port()
        own = Path(folder) / f"prometheus-{self.port}"
        own.mkdir()
        config = own / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(path) for path in rules],
                    "scrape_configs": [
                        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{p.admin}"], "labels": labels}]}
                        for job, (p, labels) in jobs.items()
                    ],
                }
            )
        )
        super().__init__(
            [program_path("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={own / 'tsdb'}"]
            + [f"--web.listen-address=127.0.0.1:{self.port}", "--enable-feature=exemplar-storage"],
            own / "prometheus.log",
        )

    def __enter__(self):
        return self.start().answers(f"http://127.0.0.1:{self.port}/-/ready")

    def api(self, path, **parameters):
        """The data of an answer of its interface."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        answer = get_json(url)
        assert answer["status"] == "success", (path, parameters, answer)
        return answer["data"]

    def ask(self, query):
        """The values of a query's samples, now."""
        data = self.api("query", query=query)
        if data["resultType"] == "scalar":
            return [float(data["result"][1])]
        return [float(sample["value"][1]) for sample in data["result"]]


def listens(port):
    """Whether the kernel shows a listener on the port; asking by connecting would be a request that nobody counts."""
    ours = f"0100007F:{port:04X} 00000000:0000 0A"
    # gRPC takes a socket of version 6 for addresses of version 4, too
    mapped = f"0000000000000000FFFF00000100007F:{port:04X} {'0' * 32}:0000 0A"
    return ours in Path("/proc/net/tcp").read_text() or mapped in Path("/proc/net/tcp6").read_text()


def executions(folder):
    """How often each charge was executed, and at which attempts."""
    found = {}
    for line in (Path(folder) / "executions").read_text().splitlines():
        name, attempt = line.split()
        found.setdefault(name, []).append(int(attempt))
    return found


def settled(proxy, seconds=10.0):
    """Waits until no request is in flight in mamparo."""
    wait_until(lambda: proxy.metric("mamparo_bulkhead_in_flight") == 0, seconds, "no request in flight")
