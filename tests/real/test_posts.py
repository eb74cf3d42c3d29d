"""A POST is never executed twice, whatever happens to its connection; one with a key is saved."""

import random

from client import send_all
from services import executions

REQUESTS = 10_000
SAFE = {
    "timeouts": {"connect": "2s", "try": "10s", "request": "20s"},
    # a budget that never refuses: it must be the method that forbids a retry
    "retry": {
        "max_attempts": 3,
        "backoff": {"base": "5ms", "max": "20ms"},
        "budget": {"ratio": "100%", "min_per_second": 1000},
    },
}
CARELESS = """
  upstream app { server 127.0.0.1:@A@ max_fails=0; server 127.0.0.1:@B@ max_fails=0; keepalive 32; }
  server { listen @LISTEN@; location / {
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_next_upstream error timeout non_idempotent; } }
"""


def charges(count, keyed=False):
    """POSTs with bodies of different lengths; the path carries the name under which the application counts."""
    draw = random.Random(1)
    for number in range(count):
        headers = {"idempotency-key": f"key-{number}"} if keyed else {}
        yield str(number), ("POST", f"/charge/{number}", headers, b"p" * draw.randrange(1, 8192))


def executed_twice(done):
    """The names that were executed more than once."""
    return {name: attempts for name, attempts in done.items() if len(attempts) > 1}


def test_no_post_is_executed_twice_over_10_000_requests_with_resets(mamparo, apps, relays, tmp_path):
    """Rules 15 and 16; faults 45, 46, 47."""
    before = relays(apps(2), seed=1)
    proxy = mamparo(before, SAFE)
    answers = send_all(proxy.port, charges(REQUESTS), connections=32)
    injected = [relay.injected() for relay in before]
    done = executions(tmp_path)

    answered = {name for name, answer in answers.items() if answer.status == 200}
    assert len(answers) == REQUESTS
    assert not executed_twice(done)
    assert not answered - done.keys(), "answered, yet not executed"
    # The test has teeth only if each fault really occurred, and if requests were executed whose answer got lost.
    assert all(sum(counts[fault] for counts in injected) > 20 for fault in injected[0]), injected
    assert len(done.keys() - answered) > 100
    # What provably was not sent is saved: a connection refused or reset before any byte of the request.
    assert proxy.metric("mamparo_retries_total") > 0
    assert {answer.status for answer in answers.values()} <= {0, 200, 502}


def test_posts_with_a_key_are_retried(mamparo, apps, relays, tmp_path):
    """The header `idempotency-key` makes a POST retryable; the application is the one to recognise the key."""
    before = relays(apps(2), seed=3)
    proxy = mamparo(before, SAFE | {"retry": SAFE["retry"] | {"max_attempts": 8}})
    answers = send_all(proxy.port, charges(1000, keyed=True), connections=16)
    broken = {name for name, answer in answers.items() if answer.status == 0}
    assert {answer.status for answer in answers.values()} <= {0, 200}
    assert len(broken) < 60, "only an answer that broke off after its head cannot be saved"
    done = executions(tmp_path)
    assert any(attempts[-1] > 1 for attempts in done.values()), "the application sees which attempt it is"
    assert executed_twice(done)


def test_the_check_sees_a_proxy_that_repeats_posts(nginx, apps, relays, tmp_path):
    """nginx told to retry non-idempotent requests, in mamparo's place: the check above would fail on it."""
    first, second = relays(apps(2), seed=5)
    proxy = nginx(CARELESS.replace("@A@", str(first.port)).replace("@B@", str(second.port)))
    send_all(proxy.port, charges(1000), connections=16)
    assert executed_twice(executions(tmp_path))
