"""Which addresses may be reached: public ones, and those that the settings allow.

A callback_url comes from a customer, so it may name anything that this machine can reach:
itself, its neighbours, a cloud's metadata service. Refused are the IANA special-purpose
registries for IPv4 and IPv6 (RFC 6890 and its updates), multicast, and everything reserved.
`ipaddress.is_global` is no substitute: on Python 3.11 it considers 224.0.0.1, 64:ff9b::7f00:1
and 2002:7f00:1:: global.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from callbacks.model import CallbacksError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REFUSED_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this network", RFC 791
        "10.0.0.0/8",  # private use, RFC 1918
        "100.64.0.0/10",  # shared address space, RFC 6598
        "127.0.0.0/8",  # loopback, RFC 1122
        "168.63.129.16/32",  # Azure's platform service, on a public-looking address
        "169.254.0.0/16",  # link local and metadata services, RFC 3927
        "172.16.0.0/12",  # private use, RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.0.2.0/24",  # documentation, RFC 5737
        "192.31.196.0/24",  # AS112, RFC 7535
        "192.52.193.0/24",  # AMT, RFC 7450
        "192.88.99.0/24",  # 6to4 relay anycast, RFC 7526
        "192.168.0.0/16",  # private use, RFC 1918
        "192.175.48.0/24",  # AS112, RFC 7534
        "198.18.0.0/15",  # benchmarking, RFC 2544
        "198.51.100.0/24",  # documentation, RFC 5737
        "203.0.113.0/24",  # documentation, RFC 5737
        "224.0.0.0/4",  # multicast, RFC 5771
        "240.0.0.0/4",  # reserved, RFC 1112, and broadcast, RFC 919
    )
)

# The only block that IANA allocates global unicast addresses from (RFC 4291, section 2.4).
# Outside of it are loopback, NAT64 (64:ff9b::/96), unique local, link local and multicast.
GLOBAL_IPV6: Final = IPv6Network("2000::/3")

REFUSED_IPV6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocol assignments with Teredo and ORCHID, RFC 2928
        "2001:db8::/32",  # documentation, RFC 3849
        "2002::/16",  # 6to4: it embeds an IPv4 address, RFC 3056
        "2620:4f:8000::/48",  # AS112, RFC 7534
        "3fff::/20",  # documentation, RFC 9637
    )
)


class BlockedAddress(CallbacksError):
    """An address may not be reached; the message names it."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides about addresses; `allowed_networks` may be reached although they are not public."""

    allowed_networks: Sequence[Network] = ()

    def check(self, address: str | Address) -> None:
        """Raise BlockedAddress if the address may not be reached."""
        self.check_all((address,))

    def check_all(self, addresses: Iterable[str | Address]) -> list[Address]:
        """Return the addresses to connect to, IPv4-mapped ones as IPv4.

        Raises BlockedAddress if any of them is refused: otherwise, whether a name with a public
        and a private address passes would depend on their order.
        """
        checked = [_unmapped(address) for address in addresses]
        for address in checked:
            if not (self._is_allowed(address) or _is_public(address)):
                raise BlockedAddress(f"{address} is not a public address")
        return checked

    def verdict(self, address: str | Address) -> str:
        """Say in words whether an address may be reached, and why."""
        try:
            known = _unmapped(address)
        except BlockedAddress as error:
            return f"refused: {error}"
        if _is_public(known):
            return "public"
        allowed = [str(network) for network in self.allowed_networks if known in network]
        return f"not public, but allowed ({allowed[0]})" if allowed else "refused: not public"

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allowed_networks)


def _unmapped(address: str | Address) -> Address:
    """Parse an address; refuses anything else, and addresses with a zone."""
    try:
        parsed = ip_address(address)
    except ValueError:
        raise BlockedAddress("the name does not resolve to an IP address") from None
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed.scope_id is not None:
        raise BlockedAddress(f"{IPv6Address(int(parsed))} with a zone is not a public address")
    return parsed.ipv4_mapped or parsed


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in REFUSED_IPV4)
    return address in GLOBAL_IPV6 and not any(address in network for network in REFUSED_IPV6)
