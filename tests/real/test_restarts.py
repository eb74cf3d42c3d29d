"""Upstreams that are stopped, killed, restarted and slowed under load: what a policy can save is not lost."""

import re
import signal
import subprocess
import threading
import time

from client import gets, send, send_all
from programs import program_path, wait_until

POLICIES = {
    "timeouts": {"connect": "500ms", "try": "500ms", "request": "5s"},
    "retry": {},
    "circuit_breaker": {"open_for": "500ms"},
}
CONTENT = 'server {{ listen @LISTEN@; default_type text/plain; location / {{ return 200 "{}"; }} }}'


def during(trouble, load):
    """Runs `trouble` beside `load` and returns what the load gave; an error in either is an error here."""
    failed = []

    def run():
        try:
            trouble()
        except Exception as error:  # the test's own thread raises it
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    result = load()
    thread.join()
    if failed:
        raise failed[0]
    return result


def failures(answers):
    """The answers that are not 200."""
    return [(name, answer) for name, answer in answers.items() if answer.status != 200]


def test_no_get_is_lost_while_one_of_two_applications_is_killed_restarted_and_stopped(mamparo, apps):
    """Faults 44, 46, 47, 51, 52."""
    first, second = apps(2)
    proxy = mamparo([first, second], POLICIES)

    def trouble():
        time.sleep(0.5)
        first.restart(signal.SIGKILL)
        time.sleep(1)
        second.restart(signal.SIGTERM)
        time.sleep(1)
        first.signal(signal.SIGSTOP)
        time.sleep(1.5)
        first.signal(signal.SIGCONT)

    answers = during(trouble, lambda: send_all(proxy.port, gets("/get/{}", 9)))
    assert not failures(answers)
    assert len(answers) > 500
    instances = {re.search(rb'"instance":(\d+)', answer.body).group(1) for answer in answers.values()}
    assert len(instances) == 4, "both instances answered before and after their restart"
    assert proxy.metric("mamparo_retries_total") > 0


def test_no_get_is_lost_while_one_of_two_nginx_restarts_under_wrk(mamparo, nginx):
    """Faults 46, 52, with the load that a real generator makes."""
    first, second = nginx(CONTENT.format("a")), nginx(CONTENT.format("b"))
    proxy = mamparo([first, second], POLICIES)

    def trouble():
        for _ in range(3):
            time.sleep(0.7)
            first.restart()

    wrk = [program_path("wrk"), "-t1", "-c32", "-d5s", f"http://127.0.0.1:{proxy.port}/"]
    said = during(trouble, lambda: subprocess.run(wrk, capture_output=True, text=True, check=True, timeout=30).stdout)
    assert "Non-2xx" not in said and "Socket errors" not in said, said
    assert int(re.search(r"(\d+) requests in", said).group(1)) > 1000


def test_the_fallback_answers_while_everything_is_down_and_the_upstream_again_afterwards(mamparo, apps):
    """Fault 51; the breaker opens and finds back by itself."""
    running = apps(2)
    policies = POLICIES | {
        "circuit_breaker": {"open_for": "500ms", "max_open_for": "1s", "max_open": "100%", "probes": 1},
        "fallback": [{"on": ["any"], "respond": {"status": 200, "body": "instead"}}],
    }
    proxy = mamparo(running, policies)
    for app in running:
        app.kill()
    answers = send_all(proxy.port, gets("/get/{}", 2))
    assert not failures(answers)
    assert {answer.headers.get("x-mamparo-fallback") for answer in answers.values()} == {"respond"}
    assert {answer.body for answer in answers.values()} == {b"instead"}
    assert proxy.metric("mamparo_requests_total", outcome="fallback") == len(answers)
    assert proxy.metric("mamparo_failures_total", reason="breaker_open") > 0
    for app in running:
        app.start().until_up()

    def recovered():  # an endpoint is tried again only by requests
        answers = send_all(proxy.port, gets("/get/{}", 0.2))
        return not any("x-mamparo-fallback" in answer.headers for answer in answers.values())

    wait_until(recovered, 5, "the upstream answers again")
    wait_until(lambda: recovered() and proxy.metric("mamparo_circuit_breaker_state") == 0, 5, "every breaker is closed")


def test_a_503_is_retried_and_the_client_is_told_how_often(mamparo, apps):
    """Rule 31 for the second half: the last real answer is passed on when the tries are used up."""
    proxy = mamparo(apps(1), {"retry": {"max_attempts": 3}})
    saved = send(proxy.port, "GET", "/fail/twice/2")
    assert (saved.status, saved.headers["x-mamparo-attempts"]) == (200, "3")
    lost = send(proxy.port, "GET", "/fail/thrice/3")
    assert (lost.status, lost.headers["x-mamparo-attempts"]) == (503, "3")
    assert "x-mamparo-reason" not in lost.headers, "the upstream's own answer, not one of ours"


def test_a_body_that_breaks_off_is_not_passed_on_as_complete(mamparo, apps):
    """Fault 47: after the head there is no retry, and the client must see that the body is broken."""
    proxy = mamparo(apps(1), {"retry": {}})
    answer = send(proxy.port, "GET", "/break/3")
    assert answer.status == 0 and "IncompleteRead" in answer.error, answer


def test_a_stopped_upstream_is_answered_for_within_the_timeouts(mamparo, apps):
    """Fault 45: it accepts (the kernel does) and never reads."""
    (app,) = apps(1)
    proxy = mamparo([app], {"timeouts": {"connect": "300ms", "try": "300ms", "request": "800ms"}, "retry": {}})
    app.signal(signal.SIGSTOP)
    answer = send(proxy.port, "GET", "/get/1")
    app.signal(signal.SIGCONT)
    assert answer.status == 504 and answer.headers["x-mamparo-reason"] in ("try_timeout", "request_timeout"), answer
    assert 0.25 < answer.seconds < 3
