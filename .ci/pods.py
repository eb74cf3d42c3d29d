"""Acts out the life of the pods of deploy/kubernetes with real processes, as a kubelet would: what is started when,
what is asked before the next one is started, who is told to end when. Everything comes from the manifests: arguments,
environment, probes, hooks. Each pod has a network of its own, which takes root.

    pods.py FOLDER        MAMPARO is the program; FOLDER has what `kubernetes.py kustomize` has rendered.
"""

import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import yaml

# A second of the manifests takes so many of ours, where nothing else is waited for.
SCALE = 0.25
# How long the application still works after it was told to end, in seconds of ours.
LATE = 2.0

# How long others still call a pod that was told to end, in seconds of ours: less than its `preStop` is for.
LEARNT = 0.6

# What the application calls, at the address that stands for `payments:80`.
PAYMENTS = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9999), Handler).serve_forever()
"""

# It calls through its sidecar as soon as it runs, answers on port 3000, and still calls when it was told to end.
APPLICATION = """
import http.server, os, signal, sys, threading, time, urllib.request
late, ends = float(sys.argv[1]), sys.argv[2] == "ends"
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
def call(name):
    try:
        with urllib.request.urlopen("http://127.0.0.1:8080/payments/" + name, timeout=5) as answer:
            print(name, answer.status, flush=True)
    except Exception as error:
        print(name, error, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        # Told to end, it takes no more.
        self.send_response(503 if told.is_set() else 200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"orders")
    def log_message(self, *_): pass
call("first")
if not ends:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 3000), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("serves", flush=True)
    told.wait()
    server.shutdown()
    time.sleep(late)
call("last")
"""

# Calls the Service until a file is there, and prints what was not answered with 200.
CALLER = """
import os, sys, urllib.request
number = 0
while not os.path.exists(sys.argv[1]):
    number += 1
    if number == 10:
        print("calls", flush=True)
    try:
        urllib.request.urlopen("http://127.0.0.1:8000/", timeout=5).read()
    except Exception as error:
        print("lost:", number, error, flush=True)
print("called", number, flush=True)
"""


class Wrong(Exception):
    """Something that must not be so."""


def holds(condition, message):
    """Fails with the message unless it is so."""
    if not condition:
        raise Wrong(message)


class Pod:
    """A pod of a manifest, in a network of its own."""

    def __init__(self, rendered):
        objects = [one for one in yaml.safe_load_all(rendered.read_text()) if one]
        (workload,) = [one for one in objects if one["kind"] in ("Deployment", "Job")]
        self.where = rendered.stem
        self.spec = workload["spec"]["template"]["spec"]
        self.config = next(
            one["data"] for one in objects if one["kind"] == "ConfigMap" and "mamparo.yaml" in one["data"]
        )
        self.name = f"pod-{uuid.uuid4().hex[:8]}"
        self.running = []
        self.folder = Path(tempfile.mkdtemp(prefix="mamparo-pod-"))
        self.began = {}

    def __enter__(self):
        try:
            return self.begun()
        except BaseException:
            self.__exit__()
            raise

    def begun(self):
        """Its network, and what it calls."""
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        for file, text in self.config.items():
            (self.folder / file).write_text(text.replace("payments:80", "127.0.0.1:9999"))
        self.start("payments", [sys.executable, "-c", PAYMENTS])
        self.until(lambda: self.succeeds("curl", "-sSf", "http://127.0.0.1:9999/"), 60, "payments answers")
        return self

    def __exit__(self, *_):
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()
        subprocess.run(["ip", "netns", "delete", self.name], check=False)
        shutil.rmtree(self.folder)

    def inside(self, *command):
        """The command that runs this one in the pod."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command):
        """Runs a command in the pod."""
        return subprocess.run(self.inside(*command), check=True, capture_output=True, text=True, timeout=90)

    def succeeds(self, *command):
        """Whether a command in the pod does."""
        done = subprocess.run(self.inside(*command), check=False, capture_output=True, timeout=90)
        return done.returncode == 0

    def start(self, name, command, environment=None):
        """Starts a process in the pod; what it prints is in a file."""
        output = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen(
            self.inside(*command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | (environment or {}),
        )
        self.began[name] = time.monotonic()
        self.running.append(process)
        return process

    def told(self, name):
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition, seconds, what):
        """Waits for something."""
        deadline = time.monotonic() + seconds
        while not condition():
            holds(time.monotonic() < deadline, f"{self.where}: never so: {what}; {self.told('payments')}")
            time.sleep(0.05)

    # --- what a kubelet does

    def container(self, manifest):
        """Starts a container; returns when its hook has ended."""
        if manifest["name"] != "mamparo":
            ends = "ends" if self.spec.get("restartPolicy") == "Never" else "serves"
            return self.start(manifest["name"], [sys.executable, "-c", APPLICATION, str(LATE), ends])
        (mount,) = [one for one in manifest["volumeMounts"] if one["name"] == "mamparo"]
        arguments = [argument.replace(mount["mountPath"], str(self.folder)) for argument in manifest["args"]]
        environment = {one["name"]: one["value"] for one in manifest["env"] if "value" in one}
        process = self.start("mamparo", [os.environ["MAMPARO"], *arguments], environment)
        hook = manifest.get("lifecycle", {}).get("postStart")
        if hook:
            program, *rest = hook["exec"]["command"]
            holds(program == "mamparo", f"{self.where}: there is no {program} in the image")
            self.run(os.environ["MAMPARO"], *rest)
        return process

    def probe(self, manifest, kind):
        """Whether a probe of a container succeeds now."""
        http = manifest[kind]["httpGet"]
        (port,) = [one["containerPort"] for one in manifest["ports"] if one["name"] == http["port"]]
        return self.succeeds("curl", "-sSf", f"http://127.0.0.1:{port}{http['path']}")

    def begin(self):
        """Starts all containers in their order."""
        self.processes, self.manifests = {}, {}
        for manifest in self.spec.get("initContainers", []):
            holds(manifest.get("restartPolicy") == "Always", f"{self.where}: {manifest['name']} is no sidecar")
            self.processes[manifest["name"]] = self.container(manifest)
            self.manifests[manifest["name"]] = manifest
            startup = manifest["startupProbe"]
            within = startup["periodSeconds"] * startup["failureThreshold"]
            self.until(lambda one=manifest: self.probe(one, "startupProbe"), within, "the startup probe")
        for manifest in self.spec["containers"]:
            self.processes[manifest["name"]] = self.container(manifest)
            self.manifests[manifest["name"]] = manifest
        ours = self.manifests["mamparo"]
        self.native = ours in self.spec.get("initContainers", [])
        (self.application,) = [name for name in self.processes if name != "mamparo"]
        for kind in ("readinessProbe", "livenessProbe"):
            holds(self.probe(ours, kind), f"{self.where}: the {kind} fails: {self.told('mamparo')}")

    def tell(self, name):
        """Waits for the hook of a container, then tells it to end."""
        hook = self.manifests[name].get("lifecycle", {}).get("preStop", {})
        time.sleep(hook.get("sleep", {}).get("seconds", 0) * SCALE)
        self.processes[name].send_signal(signal.SIGTERM)

    def end(self):
        """Ends all containers as a deleted pod's, or as those of a Job that is done."""
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        began = time.monotonic()
        ends = self.spec.get("restartPolicy") == "Never"
        with concurrent.futures.ThreadPoolExecutor() as tellers:
            first = [self.application] if self.native else list(self.processes)
            told = [] if ends else [tellers.submit(self.tell, name) for name in first]
            holds(self.processes[self.application].wait(grace) == 0, f"{self.where}: {self.told(self.application)}")
            if self.native:
                told.append(tellers.submit(self.tell, "mamparo"))
            left = grace - (time.monotonic() - began)
            holds(self.processes["mamparo"].wait(left) == 0, f"{self.where}: {self.told('mamparo')}")
            for one in told:
                one.result()
        self.took = time.monotonic() - began


def live(rendered):
    """The whole life of a pod."""
    with Pod(rendered) as pod:
        pod.begin()
        caller = None
        job = pod.spec.get("restartPolicy") == "Never"
        if not job:
            pod.until(lambda: "serves" in pod.told(pod.application), 20, "the application serves")
        if rendered.stem == "pair":
            # Until every node has learnt that the pod goes: within what its preStop is for.
            stop = pod.folder / "stop"
            caller = pod.start("caller", [sys.executable, "-c", CALLER, str(stop)])
            pod.until(lambda: "calls" in pod.told("caller"), 20, "the Service is called")
            threading.Timer(LEARNT, stop.touch).start()
        pod.end()
        lines = pod.told(pod.application).split("\n")
        holds("first 200" in lines, f"{pod.where}: the first call: {lines}")
        holds("last 200" in lines, f"{pod.where}: the last call: {lines}, {pod.told('mamparo')}")
        holds("every request was answered" in pod.told("mamparo"), f"{pod.where}: {pod.told('mamparo')}")
        if caller:
            holds(caller.wait(20) == 0, "the caller fails")
            told = pod.told("caller")
            holds("lost" not in told and "called" in told, f"{pod.where}: {told}")
        return f"{pod.where}: {'native' if pod.native else 'plain'}, ended within {pod.took:.1f} s"


def main(folder):
    """Every kind of pod at the same time."""
    if os.geteuid() != 0:
        print("pods are not acted out: a network of their own takes root")
        return
    files = [Path(folder) / f"{name}.yaml" for name in ("base", "plain", "pair", "job", "monitoring")]
    with concurrent.futures.ThreadPoolExecutor() as all_of_them:
        for line in all_of_them.map(live, files):
            print(line)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Wrong, subprocess.SubprocessError) as wrong:
        sys.exit(f"{wrong} {json.dumps(getattr(wrong, 'stderr', ''))}")
