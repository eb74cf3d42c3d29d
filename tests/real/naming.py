"""A real DNS server whose zone can be changed at any time, and the servers that its records lead to."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import Program, free_port, program_path
from services import HERE, listens

ZONE = "test"


class Nsd(Program):
    """nsd with the zone `test`; `records` are lines of a zone file."""

    def __init__(self, folder, records):
        self.port = free_port()
        # the path of a socket must be short
        self._own = Path(tempfile.mkdtemp(prefix="nsd"))
        self._serial = 0
        self.write(records)
        self.configure()
        super().__init__([program_path("nsd"), "-d", "-c", self._own / "nsd.conf"], Path(folder) / "nsd.log")

    def __enter__(self):
        return self.start().ready(lambda: self._listens())

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self._own, ignore_errors=True)

    def configure(self, zone=True):
        """Writes the configuration, with the zone or without."""
        own = self._own
        zones = f'zone:\n  name: "{ZONE}"\n  zonefile: "{ZONE}.zone"\n' if zone else ""
        (own / "nsd.conf").write_text(
            f'server:\n  server-count: 1\n  ip-address: 127.0.0.1@{self.port}\n  username: ""\n  database: ""\n'
            f'  zonesdir: "{own}"\n  pidfile: "{own}/pid"\n  xfrdfile: "{own}/xfrd"\n  xfrdir: "{own}"\n'
            f'  zonelistfile: "{own}/zones"\n  rrl-ratelimit: 0\n'
            f'remote-control:\n  control-enable: yes\n  control-interface: "{own}/control"\n{zones}'
        )

    def write(self, records):
        """Writes the zone. It is not read before it is told to."""
        self._serial += 1
        head = f"$ORIGIN {ZONE}.\n@ 5 SOA ns root {self._serial} 60 60 60 1\n@ 5 NS ns\nns 5 A 127.0.0.1\n"
        (self._own / f"{ZONE}.zone").write_text(head + "\n".join(records) + "\n")

    def remove(self):
        """Removes the zone's file: a server that starts without it answers SERVFAIL."""
        (self._own / f"{ZONE}.zone").unlink()

    def say(self, records):
        """Answers from these records from now on."""
        self.write(records)
        command = [program_path("nsd-control"), "-c", self._own / "nsd.conf", "reload", ZONE]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    def restart(self):
        """Ends it and starts it again, with what is written now."""
        self.kill()
        return self.start().ready(lambda: self._listens())

    def _listens(self):
        return f"0100007F:{self.port:04X}" in Path("/proc/net/udp").read_text()


class Farm(Program):
    """Many small servers in one process."""

    def __init__(self, folder):
        self.port = free_port()
        command = [sys.executable, HERE / "farm.py", self.port]
        super().__init__(command, Path(folder) / f"farm-{self.port}.log")

    def __enter__(self):
        return self.start().ready(lambda: listens(self.port))

    def order(self, do, ports, **more):
        """`open`, `close` or `drop` ports; returns when it is done."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as control:
            control.sendall(json.dumps({"do": do, "ports": list(ports)} | more).encode() + b"\n")
            assert control.recv(16) == b"done\n"
