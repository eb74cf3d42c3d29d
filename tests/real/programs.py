"""Starting, watching and ending the real programs that a test or a measurement needs.

Standard library only, since the peers' bench runs without a virtual environment. Whatever is started here is ended
here: each program leads a process group of its own, and that group is killed when its `with` block is left.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def end_cleanly_when_told():
    """Makes SIGTERM leave every `with` block, as an interrupt does, so that nothing started stays behind."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def wait_until(condition, seconds, what, pause=0.02):
    """Polls until `condition` returns something true and returns it; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s still not: {what}")
        time.sleep(pause)


def side_by_side():
    """Which of the processes this is that run the tests, from 0, and how many there are."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def share_of_ports():
    """Ports below the range that the system gives to outgoing connections, each once before one comes again: one from
    within that range may be taken by a connection before the program under test binds it. Processes that run tests side
    by side have ports of their own."""
    first, step = side_by_side()
    count = 21_760 // step
    for number in itertools.count(random.SystemRandom().randrange(count)):
        yield 10_240 + number % count * step + first


ports = share_of_ports()


def free_port():
    """A port that nobody listens on, and that nobody else is given."""
    for port in itertools.islice(ports, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found in 200 tries")


def render(template, values):
    """The text of the file `template` with each `@NAME@` replaced. Not `$NAME`: nginx has variables of its own."""
    text = Path(template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def mamparo_binary(*profiles):
    """The program under test: `MAMPARO`, else the newest build of these profiles."""
    if named := os.environ.get("MAMPARO"):
        return str(Path(named).resolve())
    built = [path for profile in profiles if (path := TARGET / profile / "mamparo").exists()]
    if not built:
        raise FileNotFoundError(
            f"no mamparo in {' or '.join(profiles)} under {TARGET}: build it, or name it in MAMPARO"
        )
    return str(max(built, key=lambda path: path.stat().st_mtime))


def program_path(name):
    """Where a system program is; the administrators' folders count too, since a user's PATH may lack them."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def get(url, timeout=5.0):
    """Status, headers and body of one GET on a fresh connection; a refusal or reset is an OSError."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read()
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error


def get_json(url, timeout=5.0):
    """The body of one GET, read as JSON, whatever its status."""
    return json.loads(get(url, timeout)[2])


class Program:
    """One running program with all the processes it makes."""

    def __init__(self, command, log, cores=None, env=None, cwd=None):
        self.command = [str(part) for part in command]
        self.log = Path(log)
        self._cores = cores
        self._env = env
        self._cwd = cwd
        self._process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def start(self):
        """Starts it, or starts it again after it ended. Its output is appended to the log."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                (["taskset", "-c", ",".join(map(str, self._cores))] if self._cores else []) + self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | (self._env or {}),
                cwd=self._cwd,
                start_new_session=True,
            )
        return self

    @property
    def pid(self):
        """The process that was started; `taskset` becomes the program itself."""
        return self._process.pid

    def running(self):
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number):
        """Sends a signal to the first process alone."""
        self._process.send_signal(number)

    def signal_all(self, number):
        """Sends a signal to every process of the program, as stopping a container would."""
        os.killpg(self._process.pid, number)

    def wait(self, seconds):
        """Waits for its end and returns its exit code."""
        return self._process.wait(timeout=seconds)

    def kill(self):
        """Ends every process of it at once, stopped ones too."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self._process.wait(timeout=10)

    def output(self):
        """Everything it has printed."""
        return self.log.read_text(errors="replace")

    def ready(self, condition, seconds=15.0):
        """Waits for `condition`; tells the end of the log if the program ends first or does not get there."""

        def check():
            if not self.running():
                raise RuntimeError(f"{self.command[0]} ended with {self._process.returncode}:\n{self.output()[-3000:]}")
            return condition()

        try:
            wait_until(check, seconds, f"{self.command[0]} is ready")
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n{self.output()[-3000:]}") from error
        return self

    def answers(self, url, seconds=15.0):
        """Waits until a GET of `url` is answered with 200."""

        def check():
            try:
                return get(url, 1.0)[0] == 200
            except OSError:
                return False

        return self.ready(check, seconds)

    def processes(self):
        """The ids of its living processes: the first one and all below it."""
        found, parents = [self.pid], [self.pid]
        while parents:
            parent = parents.pop()
            for task in _names(f"/proc/{parent}/task"):
                children = _read(f"/proc/{parent}/task/{task}/children").split()
                found += map(int, children)
                parents += map(int, children)
        return found

    def cpu_seconds(self):
        """User and system time of all its living processes and their threads, as the system accounts it."""
        ticks = 0
        for pid in self.processes():
            if stat := _read(f"/proc/{pid}/stat"):
                fields = stat.rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def resident_bytes(self):
        """Resident memory of all its processes; pages that they share count in each."""
        pages = (_read(f"/proc/{pid}/statm").split() for pid in self.processes())
        return sum(int(fields[1]) for fields in pages if fields) * PAGE

    def open_files(self):
        """How many file descriptors its first process holds."""
        return len(_names(f"/proc/{self.pid}/fd"))


def _read(path):
    """The text of a file under /proc; empty if its process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _names(path):
    """The entries of a folder under /proc; none if its process is gone."""
    try:
        return os.listdir(path)
    except OSError:
        return []
