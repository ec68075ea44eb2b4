"""The original design: FastAPI, SQLite, one commit a request.

REFERENCE_MODE chooses how SQLite is used: `plain`, as it comes, with a connection per request; `tuned`, with WAL and
one shared connection; synchronous=FULL in both. The statements run on the event loop: there is one writer anyway, and
handing each to a thread costs more than it frees.
"""

import hashlib
import hmac
import json
import logging
import os
import sqlite3
import sys
import time
import uuid
from contextlib import closing, nullcontext
from datetime import datetime, timezone

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, Field, ValidationError, field_validator

SECRET = os.environ["WEBHOOK_SECRET"].encode()
DATABASE = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
TUNED = os.environ.get("REFERENCE_MODE") == "tuned"

logger = logging.getLogger("reference")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.setLevel(logging.INFO)
logger.propagate = False

app = FastAPI()

http_requests = Counter("http_requests_total", "HTTP requests answered.", ["method", "path", "status"])
webhook_requests = Counter("webhook_requests_total", "POST /webhook by result.", ["result"])
request_latency_ms = Histogram(
    "request_latency_ms", "Milliseconds to the answer.", buckets=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
)


class Message(BaseModel):
    message_id: str = Field(min_length=1, max_length=255)
    sender: str = Field(alias="from", pattern=r"^\+[0-9]{1,15}$")
    to: str = Field(pattern=r"^\+[0-9]{1,15}$")
    ts: str
    text: str | None = Field(default=None, max_length=4096)

    @field_validator("ts")
    @classmethod
    def is_utc(cls, value: str) -> str:
        if not value.endswith("Z"):
            raise ValueError("ts must end in Z")
        datetime.fromisoformat(value)
        return value


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(DATABASE)
    if TUNED:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


shared = connect()
shared.execute(
    "CREATE TABLE IF NOT EXISTS messages (message_id TEXT PRIMARY KEY, sender TEXT NOT NULL,"
    " recipient TEXT NOT NULL, ts TEXT NOT NULL, text TEXT, created_at TEXT NOT NULL)"
)
shared.execute("CREATE INDEX IF NOT EXISTS messages_by_ts ON messages (ts)")
shared.commit()
if not TUNED:
    shared.close()


def connection():
    return nullcontext(shared) if TUNED else closing(connect())


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def store(message: Message) -> str:
    with connection() as conn:
        try:
            row = (message.message_id, message.sender, message.to, message.ts, message.text, now())
            conn.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
            conn.commit()
            return "created"
        except sqlite3.IntegrityError:
            conn.rollback()
            return "duplicate"


def accept(body: bytes, signature: str) -> tuple[int, object, str, str | None]:
    """Status, answer, result and message id."""
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode("latin-1")):
        return 401, {"detail": "invalid signature"}, "invalid_signature", None
    try:
        message = Message.model_validate_json(body)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)
        return 422, {"detail": detail}, "validation_error", None
    return 200, {"status": "ok"}, store(message), message.message_id


@app.middleware("http")
async def observe(request: Request, call_next) -> Response:
    """Around every request: its id, its line in the log, its metrics."""
    start = time.perf_counter()
    request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
    response = await call_next(request)
    latency_ms = (time.perf_counter() - start) * 1000
    path = request.scope["route"].path if "route" in request.scope else "other"
    http_requests.labels(request.method, path, response.status_code).inc()
    request_latency_ms.observe(latency_ms)
    line = {
        "ts": now(),
        "level": "INFO" if response.status_code < 400 else "ERROR",
        "request_id": request_id,
        "method": request.method,
        "path": path,
        "status": response.status_code,
        "latency_ms": round(latency_ms, 3),
        **getattr(request.state, "webhook", {}),
    }
    logger.info(json.dumps(line))
    response.headers["X-Request-ID"] = request_id
    return response


@app.post("/webhook")
async def webhook(request: Request) -> JSONResponse:
    body = await request.body()
    status, answer, result, message_id = accept(body, request.headers.get("x-signature", ""))
    webhook_requests.labels(result).inc()
    request.state.webhook = {"message_id": message_id, "dup": result == "duplicate", "result": result}
    return JSONResponse(answer, status_code=status)


@app.get("/health/live")
async def live() -> JSONResponse:
    return JSONResponse({"status": "ok"})


@app.get("/stats")
async def stats() -> JSONResponse:
    with connection() as conn:
        (total,) = conn.execute("SELECT COUNT(*) FROM messages").fetchone()
    return JSONResponse({"total_messages": total})
