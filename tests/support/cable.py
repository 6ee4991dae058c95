"""A cable between this network namespace and that of another process, which can be pulled.

Run as `python -m tests.support.cable PID`: makes the devices `near` here and `far` there, and
carries frames between them. SIGUSR1 pulls the cable, SIGUSR2 plugs it in again. (Not every kernel
has `veth`.)
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TAP: Final = 0x0002 | 0x1000  # frames, without a header of their own
_NETWORK: Final = 0x40000000


def _enter(namespace: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(namespace).open("rb") as file:
        if libc.setns(file.fileno(), _NETWORK):
            raise OSError(ctypes.get_errno(), "setns")


def _device(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP))
    return device


def main(pid: str) -> None:
    """Carry frames until killed."""
    plugged = True

    def pull(number: int, _frame: object) -> None:
        nonlocal plugged
        plugged = number == signal.SIGUSR2

    signal.signal(signal.SIGUSR1, pull)
    signal.signal(signal.SIGUSR2, pull)
    near = _device("near")
    _enter(f"/proc/{pid}/ns/net")
    far = _device("far")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    other = {near: far, far: near}
    while True:
        ready, _, _ = select.select([near, far], [], [])
        for device in ready:
            frame = os.read(device, 65_536)
            if plugged:
                with contextlib.suppress(OSError):  # the other end is not up yet
                    os.write(other[device], frame)


if __name__ == "__main__":
    main(sys.argv[1])
