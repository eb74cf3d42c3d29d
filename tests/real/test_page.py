"""The operator's page in a real browser, and `mamparo top` beside it."""

import concurrent.futures
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.request

import pytest
from playwright.sync_api import expect, sync_playwright

import services
from client import send
from programs import get, mamparo_binary, program_path, wait_until

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
POLICIES = {
    "retry": {"backoff": {"base": "1ms", "max": "2ms"}, "on": [503]},
    "circuit_breaker": {"consecutive_failures": 5, "open_for": "30s", "max_open_for": "30s"},
    "bulkhead": {"max_in_flight": 50},
}
NOBODY = "127.0.0.1:9"
# Names that others could have lead to this machine: what a page does that wants to read here.
NAMES = "MAP evil.example 127.0.0.1, MAP orders-admin 127.0.0.1"


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests; each gets a profile of its own."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--host-resolver-rules={NAMES}"]
        chromium = playwright.chromium.launch(executable_path=program_path("chromium"), args=arguments)
        yield chromium
        chromium.close()


class Visit:
    """A page, with all that it asked for and all that went wrong in it."""

    def __init__(self, context, admin):
        self.base = f"http://127.0.0.1:{admin}/"
        self.asked, self.wrong = [], []
        self.page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def open(self, fragment=""):
        """Opens the page and waits until it is live."""
        self.page.goto(self.base + fragment)
        expect(self.page.locator("body")).to_have_class("live")
        return self.page

    def is_clean(self):
        """Nothing was asked of anybody else, and nothing went wrong."""
        assert self.wrong == []
        assert self.asked and all(url.startswith(self.base) for url in self.asked), self.asked


@pytest.fixture
def visit(browser, stack):
    """Opens pages of an admin interface; what went wrong in them fails the test at its end."""

    @contextlib.contextmanager
    def visiting(admin, **options):
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(10_000)
        try:
            yield Visit(context, admin)
        finally:
            context.close()

    return lambda admin, **options: stack.enter_context(visiting(admin, **options))


@pytest.fixture
def three(stack, apps, tmp_path):
    """Three upstreams, each under its name as the first segment of the path; nobody is there for `payments`."""
    addresses = [f"127.0.0.1:{app.port}" for app in apps(2)]
    upstreams = {
        "catalog": {"endpoints": addresses} | POLICIES,
        "payments": {"endpoints": [NOBODY]} | POLICIES,
        "stock": {"endpoints": addresses[:1]} | POLICIES,
    }
    routes = [
        {"match": {"path_prefix": f"/{name}"}, "upstream": name, "rewrite": {"path_prefix": "/"}} for name in upstreams
    ]
    proxy = services.Mamparo(tmp_path, [])
    config = services.config_of(proxy.port, proxy.admin, [], upstreams=upstreams)
    config["listeners"]["outbound"] = {"address": f"127.0.0.1:{proxy.port}", "routes": routes}
    proxy.write(config)
    return stack.enter_context(proxy)


def ask(port, path, headers=None):
    """One GET. In a thread of its own: the browser's driver has an event loop in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(send, port, "GET", path, headers).result()


def force(proxy, upstream, endpoint, to):
    """Sets a breaker as an operator does."""
    address = f"http://127.0.0.1:{proxy.admin}/api/v1/upstreams/{upstream}/endpoints/{endpoint}/breaker"
    body = json.dumps({"force": to}).encode()
    urllib.request.urlopen(urllib.request.Request(address, data=body, method="POST"), timeout=5).close()


def test_a_breaker_that_opens_is_seen_within_2_seconds_with_its_reason(three, visit):
    """What is broken, since when, why, and what is done about it."""
    seen = visit(three.admin)
    page = seen.open()
    title = page.locator("#verdict-title")
    expect(title).to_have_text("All is well: all 3 upstreams work.")
    row = page.locator("tbody[data-upstream=payments]")
    expect(row.locator(".endpoint .tag")).to_have_text("●closed")
    begin = time.monotonic()
    for number in range(6):
        ask(three.port, f"/payments/get/{number}")
    expect(title).to_have_text("payments is in trouble.", timeout=2000)
    assert time.monotonic() - begin < 2 + 1, "the requests themselves take less than a second"
    trouble = page.locator("#troubles li").first
    expect(trouble.locator(".what")).to_have_text(
        re.compile(r"payments is down: its breaker is open since \d\d:\d\d:\d\d \(")
    )
    expect(trouble.locator(".why")).to_have_text(f"{NOBODY}: 5 consecutive failures.")
    expect(trouble.locator(".doing")).to_contain_text("Next probe in ")
    expect(row.locator(".endpoint .tag")).to_have_text("✕open")
    expect(row.locator(".endpoint .why")).to_contain_text("5 consecutive failures · next probe in ")
    expect(page.locator("tbody[data-upstream]").first).to_have_attribute("data-upstream", "payments")
    expect(page.locator("#said")).to_have_text(re.compile(f"payments {NOBODY}: breaker opened"))
    expect(page.locator("#event-list li").first).to_contain_text("breaker opened: 5 consecutive failures")
    assert page.title().startswith("(1) real")
    seen.is_clean()


def test_the_charts_show_the_last_minutes(three, visit):
    """A page that is opened later shows what was before."""
    wait_until(lambda: three.status()["history"]["total"] is not None, 8, "the first point")
    for number in range(20):
        ask(three.port, f"/stock/get/{number}")
    history = wait_until(
        lambda: sum(three.status()["history"]["total"]["requests"]) == 20 and three.status()["history"], 8, "a point"
    )
    assert sum(history["upstreams"]["stock"]["requests"]) == 20
    assert "catalog" in history["upstreams"] and history["every_ms"] == 5000
    seen = visit(three.admin)
    page = seen.open()
    drawing = page.locator("tbody[data-upstream=stock] svg.chart path.p99")
    expect(drawing).to_have_attribute("d", re.compile("^M"))
    expect(page.locator("tbody[data-upstream=stock] td[data-name=success] b")).to_have_text("100 %")
    expect(page.locator("#totals .figure").first).to_contain_text("20 since the start")
    seen.is_clean()


def test_the_filter_narrows_by_name_and_state_and_an_address_can_be_shared(three, visit):
    """`/` begins, Escape ends; a link to one upstream shows it alone."""
    force(three, "payments", NOBODY, "open")
    seen = visit(three.admin)
    page = seen.open()
    shown = page.locator("tbody[data-upstream]:visible")
    expect(shown).to_have_count(3)
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("cat")
    expect(shown).to_have_count(1)
    expect(shown).to_have_attribute("data-upstream", "catalog")
    expect(page.locator("#found")).to_have_text("1 of 3")
    page.keyboard.press("Escape")
    expect(shown).to_have_count(3)
    for words in ("open", "down", "forced", "down forced open error", "payments critical"):
        page.locator("#filter").fill(words)
        expect(shown).to_have_count(0 if "critical" in words else 1)
    page.locator("#filter").fill("open")
    expect(shown).to_have_attribute("data-upstream", "payments")
    page.locator("#filter").fill("no such thing")
    expect(page.locator("#upstream-list .empty")).to_have_text("No upstream matches. Escape shows all.")
    page.keyboard.press("Escape")
    page.locator("tbody[data-upstream=stock] a").click()
    expect(page).to_have_url(re.compile("#upstream=stock$"))
    expect(shown).to_have_count(1)
    page.locator("#all").click()
    expect(shown).to_have_count(3)
    page.goto("about:blank")
    seen.asked.clear()
    page = seen.open("#upstream=catalog")
    expect(shown).to_have_count(1)
    expect(shown.locator(".endpoint")).to_have_count(2)
    seen.is_clean()


def test_a_failed_request_is_explained_and_the_explanation_can_be_shared(three, visit):
    """From the list to the steps and back."""
    seen = visit(three.admin)
    page = seen.open()
    expect(page.locator("#request-list .empty")).to_have_text("None has failed lately.")
    answer = ask(three.port, "/catalog/status/503", {"x-request-id": "asked-1"})
    assert answer.status == 503
    row = page.locator("#request-list li").first
    expect(row).to_contain_text("GET /catalog/status/503")
    explain = row.get_by_role("link", name="explain")
    explain.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#explained")
    expect(dialog).to_be_visible()
    expect(page).to_have_url(re.compile("#request=asked-1$"))
    expect(dialog.locator(".summary")).not_to_be_empty()
    expect(dialog.locator(".step.try")).to_have_count(3)
    expect(dialog).to_contain_text("mamparo explain --id=asked-1")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(explain).to_be_focused()
    expect(page).not_to_have_url(re.compile("#"))
    page.goto("about:blank")
    seen.asked.clear()
    page = seen.open("#request=asked-1")
    expect(page.locator("#explained .step.try")).to_have_count(3)
    page.locator("#explained-close").click()
    expect(page.locator("#explained")).to_be_hidden()
    seen.is_clean()


def test_requests_that_are_alike_are_told_once(three, visit):
    """A hundred failures of one kind do not hide the one of another."""
    ask(three.port, "/catalog/status/503", {"x-request-id": "the-other"})
    for number in range(40):
        ask(three.port, "/payments/get/same", {"x-request-id": f"same-{number}"})
    seen = visit(three.admin)
    page = seen.open()
    rows = page.locator("#request-list > ul > li")
    expect(rows).to_have_count(3)
    expect(rows.nth(2)).to_contain_text("GET /catalog/status/503")
    expect(rows.first).to_contain_text("payments · breaker_open")
    more = rows.first.get_by_role("button", name=re.compile(r"and 34 like it since \d\d:\d\d:\d\d"))
    expect(more).to_have_attribute("aria-expanded", "false")
    more.focus()
    page.keyboard.press("Enter")
    expect(rows.first.get_by_role("link", name="explain")).to_have_count(31)
    page.keyboard.press("Enter")
    expect(rows.first.get_by_role("link", name="explain")).to_have_count(1)
    seen.is_clean()


def test_everything_is_reached_by_the_keyboard_and_shows_that_it_is(three, visit):
    """In the order of the page, each with a visible focus."""
    for _ in range(6):
        ask(three.port, "/payments/get/1")
    seen = visit(three.admin)
    page = seen.open()
    expect(page.locator("#request-list li").first).to_be_visible()
    order = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
              const e = document.activeElement, s = getComputedStyle(e);
              return { name: e.id || e.textContent.trim(), outline: s.outlineStyle,
                       width: s.outlineWidth, body: e === document.body };
            }"""
        )
        if focused["body"]:
            break
        assert (focused["outline"], focused["width"]) != ("none", "0px"), focused
        order.append(focused["name"])
    assert order[0] == "Skip to the upstreams"
    wanted = ["payments", "filter", "catalog", "explain", "status as JSON", "healthz"]
    places = [order.index(name) for name in wanted]
    assert places == sorted(places), order
    assert page.locator("[tabindex]:not([tabindex='-1'])").count() == 0
    seen.is_clean()


def test_the_focus_stays_where_it_is_when_the_list_is_sorted_anew(three, visit):
    """Somebody is about to press Enter."""
    seen = visit(three.admin)
    page = seen.open()
    link = page.locator("tbody[data-upstream=stock] a")
    link.focus()
    force(three, "stock", three.status()["upstreams"][2]["endpoints"][0]["address"], "open")
    expect(page.locator("tbody[data-upstream]").first).to_have_attribute("data-upstream", "stock")
    expect(link).to_be_focused()
    seen.is_clean()


def test_a_lost_connection_is_told_and_comes_back(three, visit):
    """What is old is grey, and says since when."""
    seen = visit(three.admin)
    page = seen.open()
    three.kill()
    expect(page.locator("body")).to_have_class("lost")
    expect(page.locator("#link-text")).to_have_text(
        re.compile(r"reconnecting since \d\d:\d\d:\d\d \(\d.*What you see is from \d\d:\d\d:\d\d")
    )
    expect(page.locator("main")).to_have_css("opacity", "0.5")
    three.start().answers(f"http://127.0.0.1:{three.admin}/readyz")
    expect(page.locator("body")).to_have_class("live", timeout=15_000)
    expect(page.locator("#link-text")).to_have_text("live")
    three.signal(signal.SIGSTOP)
    expect(page.locator("#link-text")).to_contain_text("no news")
    expect(page.locator("body")).to_have_class("lost")
    three.signal(signal.SIGCONT)
    expect(page.locator("body")).to_have_class("live", timeout=15_000)


def test_a_page_without_a_stream_of_its_own_reads_the_status_instead(three, visit):
    """16 streams are enough for any team; the seventeenth page still shows what is."""
    with contextlib.ExitStack() as streams:
        for _ in range(16):
            streams.enter_context(urllib.request.urlopen(f"http://127.0.0.1:{three.admin}/api/v1/stream", timeout=5))
        seen = visit(three.admin)
        seen.page.goto(seen.base)
        expect(seen.page.locator("body")).to_have_class("polling")
        expect(seen.page.locator("#verdict-title")).to_contain_text("All is well")
    expect(seen.page.locator("body")).to_have_class("live", timeout=20_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_is_legible_on_a_phone_and_in_the_dark(three, visit, scheme, size):
    """No scrolling to the side, and enough contrast."""
    for _ in range(6):
        ask(three.port, "/payments/get/" + "long" * 30)
    seen = visit(three.admin, color_scheme=scheme, viewport=size)
    page = seen.open()
    expect(page.locator("#request-list li").first).to_be_visible()
    expect(page.locator("#troubles li").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    too_faint = page.evaluate(CONTRAST)
    assert too_faint == []
    page.locator("#request-list a").first.click()
    expect(page.locator("#explained .step").first).to_be_visible()
    inside = page.evaluate(
        "(() => { const d = document.getElementById('explained'); return d.scrollWidth <= d.clientWidth; })()"
    )
    assert inside, "the dialog does not scroll to the side"
    seen.is_clean()


# The texts whose contrast against what is behind them is below 4.5, as WCAG counts it.
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const parts = numbers(colour).slice(0, 3).map((c) => c / 255);
    const [r, g, b] = parts.map((c) => (c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!(numbers(colour)[3] === 0)) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('script, noscript, svg, .unseen, .skip') || !e.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    const text = e.textContent.trim().slice(0, 40);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${text}`);
  }
  return found;
}"""


def test_the_page_and_top_show_what_the_status_says_and_nothing_else(stack, apps, visit, tmp_path):
    """A source that fails, an upstream that does, and a configuration that was refused, in the same words."""
    addresses = [f"127.0.0.1:{app.port}" for app in apps(1)]
    proxy = services.Mamparo(tmp_path, [])
    upstreams = {
        "catalog": {"endpoints": addresses, "bulkhead": {"max_in_flight": 50}},
        "mixed": {"endpoints": [*addresses, "mamparo-test.invalid:80"]},
    }
    config = services.config_of(proxy.port, proxy.admin, [], upstreams=upstreams)
    config["listeners"]["outbound"] = {"address": f"127.0.0.1:{proxy.port}", "upstream": "catalog"}
    config["listeners"]["other"] = {"address": "127.0.0.1:0", "upstream": "mixed"}
    proxy.write(config)
    stack.enter_context(proxy)
    for number in range(12):
        ask(proxy.port, f"/status/503?{number}")
    config["listeners"]["other"]["upstrem"] = "mixed"
    proxy.write(config)

    def judged():
        status = proxy.status()
        words = {one["name"]: one["judgement"]["word"] for one in status["upstreams"]}
        known = words == {"catalog": "failing", "mixed": "unresolved"} and status["notices"]
        return status if known else None

    status = wait_until(judged, 15, "what is wrong is judged")
    assert status["verdict"]["text"] == "catalog and the configuration are in trouble; 1 more needs a look."
    assert [one["word"] for one in status["notices"]] == ["config_refused"]
    page = visit(proxy.admin).open()
    said = top("--admin", f"127.0.0.1:{proxy.admin}").stdout
    expect(page.locator("#verdict-title")).to_have_text(status["verdict"]["text"])
    assert status["verdict"]["text"] in said
    failing, mixed = (one["judgement"] for one in status["upstreams"])
    for judgement in (failing, mixed, status["notices"][0]):
        row = page.locator("#troubles li").filter(has_text=judgement["what"].split(":")[0])
        expect(row.locator(".why")).to_have_text(judgement["why"])
        assert judgement["what"] in said, said
    assert "Mostly status 503." in failing["why"] and failing["why"] in said
    # The name that is not found, and why.
    assert mixed["why"].startswith("mamparo-test.invalid:80: ")
    expect(page.locator("tbody[data-upstream=mixed]")).to_contain_text("mamparo-test.invalid:80 stands for 0 addresses")
    assert re.search(r"^    mamparo-test\.invalid:80  ▲ not found  \S", said, re.MULTILINE), said
    expect(page.locator("tbody[data-upstream=catalog] .states")).to_have_text("✕failing")


def test_a_browser_reads_nothing_under_a_name_that_others_can_have(three, browser):
    """A page whose name leads here all of a sudden (DNS rebinding); our own goes on through a forwarded port."""
    with contextlib.closing(browser.new_page()) as page:
        for name in ("evil.example", "orders-admin"):
            answer = page.goto(f"http://{name}:{three.admin}/")
            assert answer.status == 403
            expect(page.locator("body")).to_contain_text("open it at http://localhost:PORT/")
            quiet = "{ headers: { 'accept-language': '' }, referrerPolicy: 'no-referrer' }"
            for path in ("api/v1/status", "api/v1/stream", "metrics"):
                assert page.evaluate(f"fetch('/{path}', {quiet}).then((answer) => answer.status)") == 403, path
        page.goto(f"http://localhost:{three.admin}/")
        expect(page.locator("body")).to_have_class("live")


def top(*arguments):
    """`mamparo top` as a program that is not in a terminal."""
    command = [mamparo_binary("debug", "release"), "top", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)


def test_top_prints_a_snapshot_and_says_when_nobody_answers(three):
    """Without a terminal it ends by itself."""
    for _ in range(6):
        ask(three.port, "/payments/get/1")
    said = top("--admin", f"127.0.0.1:{three.admin}")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].startswith("real  ● ready  mamparo ")
    assert lines[1] == "✕ payments is in trouble."
    assert any(line.startswith("    ✕ is down: its breaker is open since ") for line in lines)
    assert any(re.search(r"127.0.0.1:9\s+✕ open  5 consecutive failures; since", line) for line in lines)
    assert "\x1b" not in said.stdout
    three.kill()
    said = top("--once", "--admin", f"127.0.0.1:{three.admin}")
    assert said.returncode == 1 and "nobody answers" in said.stderr, said


@pytest.mark.parametrize("end", ["q", "interrupt", "terminate"])
def test_top_gives_the_terminal_back(three, end):
    """It has a screen of its own, and leaves it however it ends."""
    ours, theirs = pty.openpty()
    command = [mamparo_binary("debug", "release"), "top", "--interval", "200ms", "--admin", f"127.0.0.1:{three.admin}"]
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""

    def read():
        nonlocal said
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], 0.05)[0]:
                piece = os.read(ours, 65536)
                if not piece:
                    break
                said += piece
        return said

    try:
        wait_until(lambda: read().count(b"UPSTREAM") >= 3, 10, "three pictures")
        assert said.startswith(b"\x1b[?1049h"), said[:50]
        if end == "q":
            os.write(ours, b"q")
        else:
            program.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGTERM)
        wait_until(lambda: read() and program.poll() is not None, 10, "it has ended")
        assert program.returncode == 0
        assert read().endswith(b"\x1b[?25h\x1b[?1049l"), said[-60:]
    finally:
        program.kill()
        program.wait(10)
        os.close(ours)


def test_the_stream_does_not_hold_up_the_end(three):
    """Somebody always has the page open."""
    stream = urllib.request.urlopen(f"http://127.0.0.1:{three.admin}/api/v1/stream", timeout=5)
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.readline() == b"retry: 1000\n"
    three.signal(signal.SIGTERM)
    assert three.wait(5) == 0
    stream.close()


def test_every_answer_forbids_what_the_page_does_not_need(three):
    """The policy that the browser keeps, and files from here alone."""
    for path in ("", "page.js", "page/dom.js", "page.css", "api/v1/status"):
        status, headers, _body = get(f"http://127.0.0.1:{three.admin}/{path}")
        policy = headers["content-security-policy"]
        assert status == 200 and policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';"), policy
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
