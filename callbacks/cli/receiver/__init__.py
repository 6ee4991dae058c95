"""A receiver on this machine: it checks signatures, and answers or misbehaves as configured.

Tests, the demo and benchmarks run `Receiver` in their own process, `callbacks receiver` (module
`command`) runs it by itself. Importing this package loads nothing of the command.
"""

from callbacks.cli.receiver.behaviours import by_path, drop, fail_first, limited, slow, status
from callbacks.cli.receiver.exchange import Behaviour, Hit, Response
from callbacks.cli.receiver.server import Receiver, Verify

__all__ = [
    "Behaviour",
    "Hit",
    "Receiver",
    "Response",
    "Verify",
    "by_path",
    "drop",
    "fail_first",
    "limited",
    "slow",
    "status",
]
