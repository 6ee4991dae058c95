"""Every range that is not public is refused from its first to its last address."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.delivery.guard import BlockedAddress, Guard

PUBLIC_ONLY = Guard()

# Repeated on purpose: a range lost from the code must be missed here.
REFUSED_IPV4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
REFUSED_IPV6 = [
    "::/128",  # unspecified
    "::1/128",  # loopback
    "::/96",  # IPv4-compatible
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64, local use
    "100::/64",  # discard
    "100:0:0:1::/64",  # dummy
    "2001::/32",  # Teredo
    "2001:2::/48",  # benchmarking
    "2001:10::/28",  # ORCHID
    "2001:20::/28",  # ORCHIDv2
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "4000::/3",
    "5f00::/16",  # segment routing
    "8000::/1",
    "fc00::/7",  # unique local
    "fe80::/10",  # link local
    "fec0::/10",  # site local, deprecated
    "ff00::/8",  # multicast
]

# The neighbours of the refused ranges that are in no other refused range.
PUBLIC_IPV4 = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.31.195.255",
    "192.31.197.0",
    "192.52.192.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.47.255",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "8.8.8.8",
]
PUBLIC_IPV6 = [
    "2000::",
    "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2003::",
    "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff",
    "2620:4f:8001::",
    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff:1000::",
    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2606:4700:4700::1111",
]

Network = IPv4Network | IPv6Network


def ends_of(network: Network) -> list[IPv4Address | IPv6Address]:
    """The first, a middle and the last address."""
    return [network[0], network[network.num_addresses // 2], network[-1]]


@pytest.mark.parametrize("text", REFUSED_IPV4 + REFUSED_IPV6)
def test_a_reserved_range_is_refused_from_end_to_end(text: str) -> None:
    for address in ends_of(ip_network(text)):
        for form in (address, str(address)):
            with pytest.raises(BlockedAddress, match="is not a public address"):
                PUBLIC_ONLY.check(form)


@pytest.mark.parametrize("text", PUBLIC_IPV4 + PUBLIC_IPV6)
def test_its_public_neighbours_are_not(text: str) -> None:
    PUBLIC_ONLY.check(text)
    PUBLIC_ONLY.check(ip_address(text))


@pytest.mark.parametrize("text", REFUSED_IPV4)
def test_ipv6_forms_that_embed_a_refused_ipv4_address_are_refused(text: str) -> None:
    for address in ends_of(IPv4Network(text)):
        number = int(address)
        mapped = IPv6Address((0xFFFF << 32) | number)
        nat64 = IPv6Address((0x0064_FF9B << 96) | number)
        sixtofour = IPv6Address((0x2002 << 112) | (number << 80))
        for form in (mapped, nat64, sixtofour, IPv6Address(number)):
            with pytest.raises(BlockedAddress):
                PUBLIC_ONLY.check(form)


def test_a_mapped_public_address_is_connected_to_as_ipv4() -> None:
    assert PUBLIC_ONLY.check_all(["::ffff:8.8.8.8"]) == [IPv4Address("8.8.8.8")]


@pytest.mark.parametrize(
    "address",
    ["fe80::1%eth0", "fe80::1%1", "2606:4700::1%eth0", "::1%lo", IPv6Address("2606:4700::1%eth0")],
)
def test_a_zone_is_refused_even_on_an_allowed_or_public_address(
    address: str | IPv6Address,
) -> None:
    allowing = Guard((ip_network("::/0"),))
    with pytest.raises(BlockedAddress, match="zone"):
        allowing.check(address)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", " ::1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BlockedAddress, match="not resolve to an IP address"):
        PUBLIC_ONLY.check(text)


def test_one_refused_address_refuses_the_name() -> None:
    with pytest.raises(BlockedAddress, match=r"^10\.0\.0\.1 is not a public address$"):
        PUBLIC_ONLY.check_all(["8.8.8.8", "2606:4700::1", "10.0.0.1", "9.9.9.9"])


def test_the_order_of_addresses_is_kept() -> None:
    found = ["9.9.9.9", "2606:4700::1", "8.8.8.8"]
    assert [str(each) for each in PUBLIC_ONLY.check_all(found)] == found
    assert PUBLIC_ONLY.check_all([]) == []


def test_allowed_networks_are_let_in_and_nothing_beside_them() -> None:
    guard = Guard((ip_network("127.0.0.0/8"), ip_network("fd00::/64")))
    guard.check_all(["127.0.0.1", "127.255.255.255", "::ffff:127.0.0.1", "fd00::1", "8.8.8.8"])
    for refused in ("10.0.0.1", "::1", "fd00:0:0:1::", "172.16.0.1"):
        with pytest.raises(BlockedAddress):
            guard.check(refused)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_public_where_it_is_in_no_listed_range(address: IPv4Address) -> None:
    expected = any(address in IPv4Network(text) for text in REFUSED_IPV4)
    assert is_refused(address) == expected


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:%s", "%s"]))
def test_mapping_an_address_changes_nothing(address: IPv4Address, form: str) -> None:
    assert is_refused(form % address) == is_refused(address)


@given(st.ip_addresses(v=6))
def test_what_python_takes_for_private_is_refused_too(address: IPv6Address) -> None:
    if not address.is_global and address.ipv4_mapped is None:
        assert is_refused(address)


@given(st.one_of(*(st.ip_addresses(network=text) for text in REFUSED_IPV4 + REFUSED_IPV6)))
def test_every_address_of_a_reserved_range_is_refused(
    address: IPv4Address | IPv6Address,
) -> None:
    assert is_refused(address)


def is_refused(address: str | IPv4Address | IPv6Address) -> bool:
    try:
        PUBLIC_ONLY.check(address)
    except BlockedAddress:
        return True
    return False


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "233.252.0.0/24",
        "240.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "::ffff:0:0/96",
        "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:20::/28",
        "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8",
    ],
)  # fmt: skip
def test_what_requests_hardened_refuses_is_refused_here_too(network: str) -> None:
    net = ip_network(network)
    for address in (net[0], net[min(1, net.num_addresses - 1)], net[-1]):
        with pytest.raises(BlockedAddress):
            Guard(()).check(address)


@pytest.mark.parametrize("address", ["::192.0.5.0", "168.63.129.16", "2620:4f:8000::1"])
def test_what_requests_hardened_lets_through_is_refused_here(address: str) -> None:
    with pytest.raises(BlockedAddress):
        Guard(()).check(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", "public"),
        ("10.1.2.3", "not public, but allowed (10.0.0.0/8)"),
        ("::ffff:10.1.2.3", "not public, but allowed (10.0.0.0/8)"),
        ("127.0.0.1", "refused: not public"),
        ("nonsense", "refused: the name does not resolve to an IP address"),
    ],
)
def test_a_verdict_says_whether_and_why(address: str, expected: str) -> None:
    assert (
        Guard([ip_network("192.168.0.0/16"), ip_network("10.0.0.0/8")]).verdict(address) == expected
    )
