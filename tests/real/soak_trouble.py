"""What goes wrong during the soak: applications that are killed, restarted and stopped, and configurations that change
every second, sometimes into nonsense."""

import asyncio
import signal
import urllib.request

from programs import free_port
from services import listens

# Calm again: every upstream connection is given up soon after its last use, so that what stays is a leak.
POOL = {"idle_timeout": "1s"}
FALLBACK = [{"on": ["any"], "respond": {"status": 200, "body": "instead"}}]


async def upset(apps, draw, stop, done):
    """Does something to one application after another until it is told to stop; leaves all of them running."""
    while not stop.is_set():
        app = draw.choice(apps)
        what = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        done[what.name] += 1
        app.signal(what)
        await asyncio.sleep(draw.random() * 1.5)
        if what == signal.SIGSTOP:
            app.signal(signal.SIGCONT)
        else:
            while app.running():
                await asyncio.sleep(0.02)
            app.start()
            while not listens(app.port):
                await asyncio.sleep(0.02)
        await asyncio.sleep(draw.random() * 0.5)


def calm(proxy, apps, relays):
    """The configuration before and after: everything on, nothing drawn."""

    def upstream(programs):
        return {
            "endpoints": [f"127.0.0.1:{program.port}" for program in programs],
            "pool": POOL,
            "timeouts": {"connect": "500ms", "try": "1s", "request": "5s", "idle": "5s"},
            "retry": {},
            "circuit_breaker": {"open_for": "200ms", "max_open_for": "1s"},
            "bulkhead": {"max_in_flight": 100},
            "fallback": FALLBACK,
        }

    return {
        "service": "soak",
        "admin": {"address": f"127.0.0.1:{proxy.admin}"},
        "access_log": {"destination": "off"},
        "listeners": {
            "outbound": {
                "address": f"127.0.0.1:{proxy.port}",
                "timeouts": {"header": "2s", "idle": "10s"},
                "routes": [
                    {"match": {"path_prefix": "/charge"}, "upstream": "charges"},
                    {"upstream": "app"},
                ],
            }
        },
        "upstreams": {"app": upstream(apps), "charges": upstream(relays)},
    }


def changed(config, draw):
    """The calm configuration with endpoints, policies, upstreams and listeners added, removed and changed."""
    app, charges = config["upstreams"]["app"], config["upstreams"]["charges"]
    app["endpoints"] = draw.sample(app["endpoints"], draw.randrange(1, 4))
    app["balance"] = draw.choice(("least_request", "round_robin", "random"))
    app["timeouts"] |= {"try": draw.choice(("200ms", "1s")), "request": draw.choice(("800ms", "5s"))}
    app["bulkhead"] = {
        "max_in_flight": draw.randrange(2, 60),
        "max_queue": draw.randrange(0, 20),
        "queue_timeout": "50ms",
        "max_connections": draw.choice(("none", 3, 50)),
    }
    charges["bulkhead"] = {"max_in_flight": draw.randrange(2, 60), "max_queue": draw.randrange(0, 20)}
    for upstream in (app, charges):
        for policy in ("retry", "circuit_breaker", "fallback"):
            if draw.random() < 0.3:
                del upstream[policy]
        if draw.random() < 0.3:
            upstream["rate_limit"] = {"per_second": draw.randrange(50, 500), "burst": 50}
    if draw.random() < 0.5:
        config["upstreams"]["extra"] = app | {"endpoints": app["endpoints"][:1]}
        route = {"match": {"path_prefix": "/get/2"}, "upstream": "extra"}
        config["listeners"]["outbound"]["routes"].insert(0, route)
    if draw.random() < 0.3:
        config["listeners"]["second"] = {"address": f"127.0.0.1:{free_port()}", "upstream": "app"}
    return config


async def reconfigure(proxy, apps, relays, draw, stop, done):
    """Writes another configuration every second, and tells of it by a signal, by the admin interface, or not at all."""
    while not stop.is_set():
        broken = draw.random() < 0.2
        proxy.write("listeners: {outbound: {" if broken else changed(calm(proxy, apps, relays), draw))
        done["broken" if broken else "changed"] += 1
        how = draw.choice(("signal", "admin", "watch"))
        if how == "signal":
            proxy.signal(signal.SIGHUP)
        elif how == "admin":
            status = await asyncio.to_thread(order_reload, proxy)
            assert status == (422 if broken else 200), f"reload of a {'broken' if broken else 'good'} file: {status}"
        await asyncio.sleep(1)


def order_reload(proxy):
    """`POST /api/v1/reload`; its status."""
    url = f"http://127.0.0.1:{proxy.admin}/api/v1/reload"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code
