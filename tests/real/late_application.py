"""An application that calls others through its sidecar, and takes its time to end.

Usage: late_application.py PORT SECONDS PAUSE CONNECTION. It calls again and again, with a pause between two calls, over
one connection (`kept`) or a new one each time (`new`). SIGTERM does not stop it: it goes on for so many seconds, makes
a last call and ends. Each call is written down as a line: when, status, and what went wrong.
"""

import asyncio
import signal
import sys
import time

from client import Connection


async def main(port, seconds, pause, kept):
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    connection = Connection(port, timeout=10)
    end = None

    async def call(name):
        answer = await connection.send("GET", f"/get/{name}")
        print(f"{name} {time.time():.3f} {answer.status} {answer.error}", flush=True)
        if not kept:
            connection.close()

    number = 0
    while end is None or time.monotonic() < end:
        await call(number)
        number += 1
        await asyncio.sleep(pause)
        if told.is_set() and end is None:
            end = time.monotonic() + seconds
    await call("last")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "kept"))
