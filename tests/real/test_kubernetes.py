"""What deploy/kubernetes says to a pod: its iptables rules, with the rights that their container has."""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from test_transparent import CLIENT, GET, REASON, SERVER

from programs import Program, mamparo_binary, program_path

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
# The pod, and whatever else there is in the cluster.
POD, WORLD = "10.98.0.2", "10.98.0.1"
GROUP = "15001"

pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class Cluster:
    """A pod's network, and another one that it can reach."""

    def __init__(self):
        self.pod = f"pod-{uuid.uuid4().hex[:8]}"
        self.world = f"world-{uuid.uuid4().hex[:8]}"

    def __enter__(self):
        for name in (self.pod, self.world):
            self.ip("netns", "add", name)
        try:
            self.ip("-n", self.pod, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", self.world)
            for name, address in ((self.pod, POD), (self.world, WORLD)):
                self.ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
                for link in ("lo", "eth0"):
                    self.ip("-n", name, "link", "set", link, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in (self.pod, self.world):
            self.ip("netns", "delete", name)

    def ip(self, *command):
        """Runs `ip`."""
        subprocess.run([program_path("ip"), *command], check=True, capture_output=True, timeout=20)

    def inside(self, name, *command):
        """The command that runs this one in one of the two."""
        return [program_path("ip"), "netns", "exec", name, *command]

    def ask(self, port, text, wanted):
        """What the application gets from the world."""
        quoted = text.encode("unicode_escape").decode()
        command = self.inside(self.pod, sys.executable, "-c", CLIENT, WORLD, str(port), quoted, str(wanted))
        done = subprocess.run(command, check=False, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def redirected(cluster):
    """Does what the init container does, with NET_ADMIN and no other right; twice, as after its restart."""
    rules = KUBERNETES / "components/transparent/rules"
    restore = ["iptables-nft-restore", "--wait=5", "--noflush"]
    text = (KUBERNETES / "components/transparent/redirect.yaml").read_text()
    assert f"command: [{', '.join(restore)}, /etc/mamparo-redirect/rules]" in text
    only = ["setpriv", "--inh-caps=-all,+net_admin", "--bounding-set=-all,+net_admin", "--no-new-privs"]
    for _ in range(2):
        command = cluster.inside(cluster.pod, *only, program_path(restore[0]), *restore[1:], rules)
        done = subprocess.run(command, check=False, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr.decode()


def test_the_transparent_overlay_redirects_what_the_application_sends(stack, tmp_path):
    """The routed host gets its policies, others are reached untouched, and the sidecar is not sent to itself."""
    cluster = stack.enter_context(Cluster())
    for port, kind in ((80, "other"), (8081, "shop"), (25, "greets")):
        server = cluster.inside(cluster.world, sys.executable, "-c", SERVER, WORLD, str(port), kind)
        stack.enter_context(Program(server, tmp_path / f"{kind}.log"))
    redirected(cluster)
    config = (KUBERNETES / "overlays/transparent/mamparo.yaml").read_text()
    assert "endpoints: [payments:80]" in config
    path = tmp_path / "mamparo.yaml"
    path.write_text(config.replace("payments:80", f"{WORLD}:8081"))
    as_group = ["setpriv", f"--regid={GROUP}", "--clear-groups"]
    command = cluster.inside(cluster.pod, *as_group, mamparo_binary("debug", "release"), "run", "--config", path)
    program = stack.enter_context(Program(command, tmp_path / "mamparo.log"))
    program.ready(lambda: "admin listening" in program.output())
    answer = cluster.ask(80, GET.format("payments"), 100)
    assert b"shop GET /a HTTP/1.1" in answer and b"x-request-id" in answer
    answer = cluster.ask(80, GET.format("elsewhere"), 60)
    assert answer.endswith(b"other GET /a HTTP/1.1\r\nhost: elsewhere\r\n"), "not a byte was added"
    assert cluster.ask(25, "", 13) == b"220 welcome\r\n"
    status = subprocess.run(
        cluster.inside(cluster.pod, "curl", "-sS", "http://127.0.0.1:9901/api/v1/status"),
        check=True,
        capture_output=True,
        timeout=20,
    )
    (listener,) = json.loads(status.stdout)["listeners"]
    assert listener["address"] == "127.0.0.1:15001", "what is redirected comes to loopback"
