"""Turns a prepared request into bytes, and a reply into a `requests.Response`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import Message
from io import BytesIO
from typing import Final, cast

from requests import PreparedRequest, Response
from requests.cookies import extract_cookies_to_jar
from requests.exceptions import InvalidHeader
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity, get_encoding_from_headers
from urllib3 import HTTPHeaderDict, HTTPResponse

from callbacks.delivery.reply import Reply
from callbacks.request.urls import Url

# Checks all headers at once as `requests` checks each one, in a twelfth of the time.
_FIELDS: Final = re.compile(r"(?:[^:\s][^:\r\n]*: [^\r\n]*\r\n)*")

# Methods whose requests need no Content-Length without a body.
_BODILESS: Final = {"GET", "HEAD", "DELETE", "OPTIONS"}

# Generated from URL and body, or of no use because one whole reply is read.
_OURS: Final = {"accept-encoding", "connection", "content-length", "host", "transfer-encoding"}


def request_bytes(request: PreparedRequest, url: Url) -> bytes:
    """Head and body in one piece; the request target is taken unchanged from the URL.

    Raises requests' InvalidHeader.
    """
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode()
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    fields = "".join(lines)
    if fields.count("\n") != len(lines) or not _FIELDS.fullmatch(fields):
        for header in request.headers.items():
            check_header_validity(header)  # raises, naming the invalid one
        raise InvalidHeader("a header is not one line")
    length = f"Content-Length: {len(body)}\r\n" if body or request.method not in _BODILESS else ""
    head = (
        f"{request.method} {url.request_target} HTTP/1.1\r\nHost: {url.authority}\r\n"
        f"Accept-Encoding: identity\r\n{fields}{length}\r\n"
    )
    return head.encode("latin-1") + body


def own_headers(request: PreparedRequest) -> dict[str, str]:
    """The request's headers except those generated here, as text."""
    given = cast("Mapping[str, str | bytes]", request.headers)
    return {
        name: value.decode("latin-1") if isinstance(value, bytes) else value
        for name, value in given.items()
        if name.lower() not in _OURS
    }


def response_of(request: PreparedRequest, reply: Reply) -> Response:
    """The reply, with its whole body, as a session expects it from an adapter."""
    headers, message = HTTPHeaderDict(), Message()
    for name, values in reply.fields.items():
        for value in values:
            headers.add(name, value)
            message[name] = value
    response = Response()
    response.request = request
    response.url = request.url or ""
    response.status_code, response.reason = reply.status, reply.reason
    response.headers = CaseInsensitiveDict(headers)
    response.encoding = get_encoding_from_headers(response.headers)
    response.raw = HTTPResponse(
        BytesIO(reply.body),
        headers,
        reply.status,
        reason=reply.reason,
        preload_content=False,
        original_response=_Original(message),  # type: ignore[arg-type]  # all that is used of one
        request_method=request.method,
    )
    extract_cookies_to_jar(response.cookies, request, response.raw)  # type: ignore[no-untyped-call]
    return response


class _Original:
    """Where `requests` looks for cookies: an http.client response that has been read."""

    def __init__(self, msg: Message) -> None:
        self.msg = msg

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: the connection is already back in the pool."""
