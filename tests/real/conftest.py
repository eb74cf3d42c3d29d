"""Fixtures: factories for the programs, which end with the test."""

import contextlib
import tempfile
from pathlib import Path

import pytest

import services
from programs import end_cleanly_when_told

end_cleanly_when_told()


@pytest.fixture
def stack():
    """Ends what was started when the test ends, the last first."""
    with contextlib.ExitStack() as programs:
        yield programs


@pytest.fixture
def apps(stack, tmp_path):
    """Starts so many instances of the application."""

    def start(count):
        made = [services.App(tmp_path) for _ in range(count)]
        for app in made:
            app.start()
            stack.callback(app.kill)
        return [app.until_up() for app in made]

    return start


@pytest.fixture
def relays(stack, tmp_path):
    """Starts a relay before each application."""

    def start(apps, seed):
        return [stack.enter_context(services.Relay(tmp_path, app.port, seed + i)) for i, app in enumerate(apps)]

    return start


@pytest.fixture
def public(stack):
    """A folder that other users may look into, as nginx' own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def nginx(stack, tmp_path):
    """Starts nginx with this in its http block."""
    return lambda http: stack.enter_context(services.Nginx(tmp_path, http))


@pytest.fixture
def mamparo(stack, tmp_path):
    """Starts mamparo before these programs, with these policies."""

    def start(programs, upstream=None, **rest):
        ports = [program.port for program in programs]
        proxy = stack.enter_context(services.Mamparo(tmp_path, ports, upstream, **rest))
        stack.callback(lambda: assert_no_panic(proxy))
        return proxy

    return start


def assert_no_panic(proxy):
    """A panic is a bug, whatever the test was about."""
    assert "panicked at" not in proxy.output(), proxy.output()
