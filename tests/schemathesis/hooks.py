"""Signs what Schemathesis sends to POST /webhook, so that good and bad bodies get past the signature alike, and
says what docs/openapi.json cannot: when a signature is right, a target too long, a date real."""

import datetime
import hashlib
import hmac
import os
import re
import unicodedata
import urllib.parse

import requests.auth
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

SECRET = os.environ["WEBHOOK_SECRET"].encode()
TARGET_BYTES_MAX = 8 << 10
HEADER_BYTES_MAX = 16 << 10


def signature(body):
    if isinstance(body, str):
        body = body.encode()
    return hmac.new(SECRET, body or b"", hashlib.sha256).hexdigest()


class Signer(requests.auth.AuthBase):
    """Signs the very bytes that are sent. Of sixteen bodies it leaves about one unsigned and signs about one
    wrongly; which ones depends on the body alone, so that a seed repeats a run."""

    def __call__(self, request):
        right = signature(request.body)
        match int(right, 16) % 16:
            case 0:
                request.headers.pop("X-Signature", None)
            case 1:
                request.headers["X-Signature"] = right[::-1]
            case _:
                request.headers["X-Signature"] = right
        return request


class SourceSigner(requests.auth.AuthBase):
    """Signs as WhatsApp does, for the one source that the service has."""

    def __call__(self, request):
        request.headers["X-Hub-Signature-256"] = "sha256=" + signature(request.body)
        return request


schemathesis.auth.set_from_requests(Signer()).apply_to(path="/webhook", method="POST")
schemathesis.auth.set_from_requests(SourceSigner()).apply_to(path="/webhook/{name}", method="POST")


@schemathesis.check
def the_signature_decides(ctx, response, case):
    """A body is refused for its signature if and only if that is not right."""
    request = response.request
    if request.method != "POST" or request.path_url.split("?")[0] != "/webhook":
        return
    # Broken framing and sizes come before the signature.
    if response.status_code in (400, 413, 414, 431):
        return
    given = request.headers.get("X-Signature", "")
    given = given.decode("latin-1") if isinstance(given, bytes) else given
    is_right = given.lower() == signature(request.body)
    assert (response.status_code != 401) == is_right, f"{response.status_code} for a signature that is right: {is_right}"


@schemathesis.check
def the_length_of_the_target_decides(ctx, response, case):
    """A target is refused for its length if and only if it is too long."""
    length = len(response.request.path_url)
    # One that is longer than a whole header may be is refused as such where it fills the service's buffer.
    expected = {414} if length <= HEADER_BYTES_MAX else {414, 431}
    is_refused = response.status_code in expected
    assert is_refused == (length > TARGET_BYTES_MAX), f"{response.status_code} for a target of {length} bytes"


@schemathesis.check
def the_query_decides(ctx, response, case):
    """A list of messages is refused for its query if and only if that is wrong."""
    request = response.request
    path, _, query = request.path_url.partition("?")
    if request.method not in ("GET", "HEAD") or path != "/messages" or response.status_code in (400, 414, 431):
        return
    is_right = is_query(query)
    assert response.status_code == (200 if is_right else 422), f"{response.status_code} for a query that is right: {is_right}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody waits for an event that never comes."""
    if case.path == "/events" and case.query and is_number(str(case.query.get("wait", "")), 1, 60):
        case.query["wait"] = "0"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Passes over what only looks like a mistake by the schemas. A pattern lets 30 February pass, and a cursor that
    holds no id. An empty parameter is none, of a repeated one the last counts, a cursor excludes an offset: OpenAPI has no
    words for it, `the_query_decides` knows. The same goes for the log and its cursors, and a position of the right form may
    be too large or name no event: tests/it/events and tests/it/cursors.rs know. A source is found by its name and takes any body
    that is signed, and a handshake needs a token: tests/it/sources knows. The names of assets have hashes, and there are no
    sessions without a read token, which would keep everything else from being read: tests/it/contract knows."""
    path = response.request.path_url.partition("?")[0]
    if path == "/session":
        return response.status_code != 404
    if path.startswith(("/assets/", "/events", "/cursors", "/stats/volume", "/webhook/")):
        return not isinstance(failure, (RejectedPositiveData, AcceptedNegativeData))
    if isinstance(failure, RejectedPositiveData):
        path, _, query = response.request.path_url.partition("?")
        if path == "/messages":
            return response.status_code != 422 or is_query(query)
        ts = case.body.get("ts") if isinstance(case.body, dict) else None
        return response.status_code != 422 or ts is None or is_real(ts)
    if isinstance(failure, AcceptedNegativeData):
        path, _, query = response.request.path_url.partition("?")
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        is_plain = all(value for _, value in pairs) and len(dict(pairs)) == len(pairs)
        return path != "/messages" or is_plain or not is_query(query)
    return True


def is_query(query):
    """Whether the parameters of GET /messages are right, as docs/http-api.md has it."""
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    limit, offset, order, cursor = (given.get(name, "") for name in ("limit", "offset", "order", "cursor"))
    is_export = given.get("format", "") in ("ndjson", "csv")
    # An export begins after a message.
    sides = "13" if is_export else "1234"
    return (
        given.get("format", "") in ("", "json", "ndjson", "csv")
        and (not limit or is_number(limit, 1, 2**64 - 1 if is_export else 100))
        and (not offset or is_number(offset, 0, 0 if is_export else 2**64 - 1))
        and order in ("", "asc", "desc")
        and (not cursor or cursor[1:2] in sides and is_cursor(cursor) and (not offset or int(offset) == 0))
        and all(not given.get(name) or is_instant(given[name]) for name in ("since", "until"))
        and len(given.get("q", "")) <= 4096
    )


def is_number(text, least, most):
    return re.fullmatch("-?[0-9]+", text) is not None and least <= int(text) <= most


def is_cursor(text):
    """One byte for the side, eight for the second, four for the nanosecond, for another source than the built-in one its name
    after a byte for the length of that, then an id, in hex digits."""
    if re.fullmatch("(0[1-4])([0-9A-Fa-f]{2}){13,}", text) is None:
        return False
    side, rest = int(text[:2]), bytes.fromhex(text)[13:]
    try:
        if side > 2:
            end = 1 + rest[0]
            source, rest = rest[1:end].decode(), rest[end:]
            if len(source) != end - 1 or re.fullmatch("[a-z0-9-]{1,40}", source) is None or source == "webhook":
                return False
        message_id = rest.decode()
    except UnicodeDecodeError:
        return False
    return 1 <= len(message_id) <= 255 and not any(unicodedata.category(char) == "Cc" for char in message_id)


def is_instant(text):
    form = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z"
    return re.fullmatch(form, text) is not None and is_real(text)


def is_real(instant):
    """Whether the date is one that was or will be."""
    year, month, day = (int(number) for number in instant[:10].split("-"))
    try:
        # Python has no year 0, which is a leap year as 400 is one.
        datetime.date(year or 400, month, day)
    except ValueError:
        return False
    return True
