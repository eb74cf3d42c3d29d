"""Each command of the program, run as a command."""

import json
import os
import re
import signal
import subprocess

import pytest

from client import send
from programs import Program, free_port, mamparo_binary, wait_until
from services import config_of

LINTED = {"timeouts": {"request": "1s", "try": "1s"}, "retry": {}}


def command(*arguments, **options):
    """Runs mamparo to its end."""
    line = [mamparo_binary("debug", "release"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file."""

    def write(content, name="mamparo.yaml"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return path

    return write


def fine():
    """A configuration that nothing is wrong with."""
    return config_of(8080, 9901, [9001])


def test_check_says_0_1_2(file):
    """0 fine, 1 warnings under --strict, 2 errors."""
    good, linted = file(fine()), file(config_of(8080, 9901, [9001], LINTED), "linted.yaml")
    bad = file("listeners:\n  outbound:\n    adress: 127.0.0.1:8080\n", "bad.yaml")
    assert command("check", good).returncode == 0
    assert command("check", "--strict", good).returncode == 0
    assert command("check", linted).returncode == 0
    assert command("check", "--strict", linted).returncode == 1
    said = command("check", bad)
    assert said.returncode == 2
    assert "bad.yaml:3:5: " in said.stdout + said.stderr and "address" in said.stdout + said.stderr
    said = command("check", "--format", "json", bad)
    assert said.returncode == 2
    assert "bad.yaml" in json.dumps(json.loads(said.stdout))
    assert command("check", file("", "empty.yaml")).returncode == 2
    assert command("check", "/nonexistent.yaml").returncode == 2


def test_run_refuses_a_bad_configuration_with_2_and_a_taken_port_with_1(file, tmp_path, apps):
    """Fault 80: a clear sentence, then the end."""
    assert command("run", "--config", file("upstreams: {}")).returncode == 2
    assert command("run", "--config", tmp_path / "missing.yaml").returncode == 2
    (app,) = apps(1)
    said = command("run", "--config", file(config_of(app.port, free_port(), [9])))
    assert said.returncode == 1
    assert str(app.port) in said.stderr


def test_explain_shows_route_upstream_and_timeline(file):
    """0, and 2 for a bad configuration."""
    good = file(config_of(8080, 9901, [9001], {"retry": {}, "timeouts": {"request": "7s"}}))
    said = command("explain", "--config", good, "GET", "http://127.0.0.1:8080/get/1", "-H", "x-tenant: acme")
    assert said.returncode == 0, said.stderr
    for word in ("app", "7s", "retry", "max_attempts", "mamparo.yaml"):
        assert word in said.stdout, word
    assert command("explain", "--config", file("upstreams: {}"), "GET", "http://127.0.0.1:8080/").returncode == 2


def test_schema_is_json_and_names_the_policies():
    """For editors."""
    said = command("schema")
    assert said.returncode == 0
    schema = json.loads(said.stdout)
    assert {"listeners", "upstreams", "admin"} <= schema["properties"].keys()


def test_completions_are_a_script_that_bash_reads():
    """For shells."""
    said = command("completions", "bash")
    assert said.returncode == 0 and "mamparo" in said.stdout
    assert subprocess.run(["bash", "-n"], input=said.stdout, text=True, timeout=10).returncode == 0
    assert command("completions", "zsh").returncode == 0


def test_help_version_and_nonsense():
    """0 for help and version, 2 for a line that means nothing."""
    assert re.search(r"\d+\.\d+\.\d+", command("--version").stdout)
    assert command("--help").returncode == 0
    assert command("nonsense").returncode == 2
    assert command("run", "--nonsense").returncode == 2


def test_demo_runs_for_as_long_as_it_is_told():
    """No file and no network; it says where to look and ends with 0."""
    said = command("demo", "--for", "3s")
    assert said.returncode == 0, said.stderr
    assert "http://127.0.0.1:" in said.stdout + said.stderr
    assert "panicked at" not in said.stderr


def test_dev_puts_good_policies_before_one_service(stack, apps, tmp_path):
    """Works without a file, retries, and ends with 0."""
    (app,) = apps(1)
    port = free_port()
    line = [mamparo_binary("debug", "release"), "dev", "--to", f"http://127.0.0.1:{app.port}"]
    line += ["--listen", f"127.0.0.1:{port}"]
    environment = {"MAMPARO_ADMIN_ADDRESS": f"127.0.0.1:{free_port()}"}
    program = stack.enter_context(Program(line, tmp_path / "dev.log", env=environment))
    program.answers(f"http://127.0.0.1:{port}/get/1")
    saved = send(port, "GET", "/fail/dev/1")
    assert (saved.status, saved.headers.get("x-mamparo-attempts")) == (200, "2")
    program.signal(signal.SIGINT)
    wait_until(lambda: not program.running(), 5, "it has ended")
    assert program.wait(1) == 0


def test_dev_prints_a_configuration_that_check_accepts(file):
    """What it stands for can be the beginning of a file of one's own."""
    said = command("dev", "--to", "http://127.0.0.1:3000", "--print-config")
    assert said.returncode == 0
    assert command("check", "--strict", file(said.stdout)).returncode == 0


def test_run_reads_the_environment(file, tmp_path, stack, apps):
    """`${NAME}` in values, and MAMPARO_ADMIN_ADDRESS over the file's."""
    (app,) = apps(1)
    port, admin = free_port(), free_port()
    text = json.dumps(config_of(port, free_port(), [app.port])).replace(
        f"127.0.0.1:{app.port}", "127.0.0.1:${APP_PORT}"
    )
    path = file(text)
    unset = {name: value for name, value in os.environ.items() if name != "APP_PORT"}
    said = command("check", path, env=unset)
    assert said.returncode == 2 and "APP_PORT" in said.stdout + said.stderr
    line = [mamparo_binary("debug", "release"), "run", "--config", path]
    environment = {"APP_PORT": str(app.port), "MAMPARO_ADMIN_ADDRESS": f"127.0.0.1:{admin}"}
    program = stack.enter_context(Program(line, tmp_path / "run.log", env=environment))
    program.answers(f"http://127.0.0.1:{admin}/readyz")
    assert send(port, "GET", "/get/1").status == 200
