"""Receivers that misbehave on the wire: a script on a raw socket for each connection."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

Script = Callable[["Conversation"], None]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"
DRIP_S = 0.03


class Conversation:
    """One accepted connection, and what a script can do with it."""

    def __init__(self, sock: socket.socket, number: int, ended: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self.ended = ended
        self.saw_end = threading.Event()
        self._rest = b""

    def read_request(self) -> bytes:
        """One whole request; EOFError if the sender has gone."""
        head = self.read_head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._rest) < length:
            self._more()
        body, self._rest = self._rest[:length], self._rest[length:]
        return head + body

    def read_head(self) -> bytes:
        """The head of a request, once it is complete."""
        return self._until(b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send byte by byte, until the sender has gone."""
        for byte in data:
            self.send(bytes([byte]))
            self.pause()

    def pause(self, seconds: float = DRIP_S) -> None:
        """Wait; EOFError when the test is over."""
        if self.ended.wait(seconds):
            raise EOFError

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def stall(self) -> None:
        """Say nothing more until the sender goes."""
        with contextlib.suppress(TimeoutError):
            while self.sock.recv(65_536):
                pass

    def _until(self, end: bytes) -> bytes:
        while end not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(end)
        return head + end

    def _more(self) -> None:
        data = self.sock.recv(65_536)
        if not data:
            raise EOFError
        self._rest += data


class Hostile:
    """Runs the script for each connection, each in its own thread."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.conversations: list[Conversation] = []
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for conversation in self.conversations:
            with contextlib.suppress(OSError):
                conversation.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def url(self, path: str = "/", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def threads(self) -> set[threading.Thread]:
        """The threads that this server has started."""
        return {self._acceptor, *self._threads}

    def all_ended(self, timeout_s: float = 2.0) -> bool:
        """Whether the sender has closed every connection."""
        return all(each.saw_end.wait(timeout_s) for each in self.conversations)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            conversation = Conversation(sock, len(self.conversations), self._ended)
            self.conversations.append(conversation)
            thread = threading.Thread(target=self._converse, args=(conversation,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _converse(self, conversation: Conversation) -> None:
        with conversation.sock as sock, contextlib.suppress(OSError, EOFError):
            try:
                self._script(conversation)
                if sock.fileno() >= 0:
                    sock.settimeout(5)
                    conversation.stall()
            finally:
                conversation.saw_end.set()


# Scripts. Each is a function of the conversation, or makes one.


def answers(*replies: bytes) -> Script:
    """Read a request and send the next of these bytes, then say nothing more."""

    def script(talk: Conversation) -> None:
        for reply in replies:
            talk.read_request()
            talk.send(reply)

    return script


def answers_and_closes(reply: bytes) -> Script:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(reply)
        talk.sock.shutdown(socket.SHUT_WR)

    return script


def answers_and_resets(reply: bytes) -> Script:
    def script(talk: Conversation) -> None:
        talk.read_request()
        if reply:
            talk.send(reply)
            talk.pause(0.1)
        talk.reset()

    return script


def drips(before: bytes, dripped: bytes) -> Script:
    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(before)
        talk.drip(dripped)

    return script


def repeats(before: bytes, again: bytes, *, pause_s: float = 0.0) -> Script:
    """Send `again` for ever."""

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(before)
        while not talk.ended.is_set():
            talk.send(again)
            if pause_s:
                talk.pause(pause_s)

    return script


def silence(talk: Conversation) -> None:
    talk.read_request()


def closes(talk: Conversation) -> None:
    talk.read_request()
    talk.sock.shutdown(socket.SHUT_RDWR)


def closes_at_once(talk: Conversation) -> None:
    talk.sock.shutdown(socket.SHUT_RDWR)


def replies_unread(reply: bytes) -> Script:
    """Answer without reading anything of the request."""

    def script(talk: Conversation) -> None:
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        talk.send(reply)
        talk.pause(0.2)

    return script


def reads_slowly(talk: Conversation) -> None:
    """Read the request a few bytes at a time, for longer than any attempt lasts here."""
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    for _ in range(40):
        talk.sock.recv(16)
        talk.pause()


def gzip_bomb() -> bytes:
    """A small reply of 10 MB when decoded."""
    packed = gzip.compress(bytes(10_000_000))
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
    return head.encode() + packed


def fields(count: int) -> bytes:
    return b"".join(b"x-%d: y\r\n" % number for number in range(count))


def megabytes(count: int) -> Script:
    """A body of `count` MB, declared and sent as fast as it is read."""

    def script(talk: Conversation) -> None:
        talk.read_request()
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (count * 1_000_000))
        for _ in range(count):
            talk.send(bytes(1_000_000))

    return script


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that nothing listens on, and that nothing else can take meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
