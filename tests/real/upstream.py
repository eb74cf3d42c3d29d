"""The service behind the proxy: a small FastAPI application, run under uvicorn.

It counts what it really did. Each execution of a charge is one line appended to the file named by EXECUTIONS, so that
the count survives a kill of the process and is shared by all instances.
"""

import asyncio
import os

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
_executions = os.open(os.environ.get("EXECUTIONS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
_failures_left = {}


@app.get("/get/{name}")
async def read(name: str):
    """An idempotent answer that says which instance gave it."""
    return {"name": name, "instance": os.getpid()}


@app.post("/charge/{name}")
async def charge(name: str, request: Request):
    """Does something that must not be done twice, and writes down that it did and at which attempt."""
    body = await request.body()
    attempt = request.headers.get("x-mamparo-attempt", "1")
    os.write(_executions, f"{name} {attempt}\n".encode())
    return {"name": name, "bytes": len(body)}


@app.api_route("/status/{code}", methods=["GET", "POST"])
async def status(code: int):
    """Any status."""
    return Response(status_code=code)


@app.get("/fail/{name}/{times}")
async def fail(name: str, times: int):
    """503 so many times for this name, then 200."""
    left = _failures_left.setdefault(name, times)
    _failures_left[name] = left - 1
    return Response(status_code=503 if left > 0 else 200)


@app.api_route("/sleep/{milliseconds}", methods=["GET", "POST"])
async def sleep(milliseconds: int):
    """An answer that takes its time."""
    await asyncio.sleep(milliseconds / 1000)
    return {"slept": milliseconds}


@app.get("/stream/{chunks}")
async def stream(chunks: int, size: int = 16384, pause_ms: int = 0):
    """A body in pieces, with a pause between them."""

    async def pieces():
        for _ in range(chunks):
            yield b"s" * size
            if pause_ms:
                await asyncio.sleep(pause_ms / 1000)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/break/{chunks}")
async def broken(chunks: int):
    """A body that breaks off: more is announced than comes."""

    async def pieces():
        for _ in range(chunks):
            yield b"b" * 1024
        raise ConnectionResetError("broken off on purpose")

    return StreamingResponse(pieces(), headers={"content-length": str((chunks + 1) * 1024)})


@app.post("/upload")
async def upload(request: Request):
    """Reads a body piece by piece and says how long it was."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return {"bytes": size}
