"""A gRPC service in all four shapes, by generic handlers: messages are bytes, and no code has to be generated.

Usage: grpc_service.py PORT. `/t.T/Do` takes a JSON object that says what is to happen; the others say it themselves.
The standard's health service says of `t.T` what `/t.T/Serve` was told last, and at first that it serves.
"""

import collections
import json
import os
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

lock = threading.Lock()
seen = collections.Counter()


def count(name):
    """How often this was counted, this time included."""
    with lock:
        seen[name] += 1
        return seen[name]


def fail(asked, context):
    """Ends the call as it was asked to."""
    if "pushback" in asked:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", asked["pushback"]),))
    if asked.get("early"):
        # the head goes out by itself, so that the code can only stand in the trailers
        context.send_initial_metadata((("x-early", "1"),))
    context.abort(CODES[asked["code"]], asked.get("details", "as asked"))


def do(request, context):
    """Fails the first `times` calls of a `key` with `code`, and answers the others, `sleep` seconds later."""
    asked = json.loads(request)
    made = count(asked.get("key", ""))
    context.add_callback(lambda: count("ended"))
    left = context.time_remaining()
    if made <= asked.get("times", 0):
        fail(asked, context)
    time.sleep(asked.get("sleep", 0))
    told = {
        "made": made,
        "instance": os.getpid(),
        "left": left if left is not None and left < 1e6 else None,
        "metadata": dict(context.invocation_metadata()),
    }
    return json.dumps(told, default=repr).encode()


def echo(request, _context):
    return request


def downwards(request, context):
    """So many messages, each after a pause; then perhaps a failure."""
    asked = json.loads(request)
    context.add_callback(lambda: count("ended"))
    for number in range(asked["messages"]):
        if not context.is_active():
            return
        yield str(number).encode()
        time.sleep(asked.get("pause", 0))
    if "code" in asked:
        fail(asked, context)


def add(requests, _context):
    """How many messages there were, and how many bytes."""
    sizes = [len(request) for request in requests]
    return json.dumps([len(sizes), sum(sizes)]).encode()


def chat(requests, context):
    """Answers each message before it looks at the next one."""
    context.add_callback(lambda: count("ended"))
    for request in requests:
        if request == b"fail":
            context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")
        yield request[::-1]


def counted(request, _context):
    return str(seen[request.decode()]).encode()


healthy = health.HealthServicer()


def serve(request, _context):
    """The status to be told from now on, by its name."""
    healthy.set("t.T", health_pb2.HealthCheckResponse.ServingStatus.Value(request.decode()))
    return b""


HANDLERS = {
    "Do": grpc.unary_unary_rpc_method_handler(do),
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Down": grpc.unary_stream_rpc_method_handler(downwards),
    "Add": grpc.stream_unary_rpc_method_handler(add),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Counted": grpc.unary_unary_rpc_method_handler(counted),
    "Serve": grpc.unary_unary_rpc_method_handler(serve),
}


def main(port):
    server = grpc.server(futures.ThreadPoolExecutor(64), options=[*SIZE, ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", HANDLERS),))
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    healthy.set("t.T", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    told.wait()
    server.stop(5).wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
