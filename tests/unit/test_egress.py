"""The egress policy: who may connect where."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsettings.core.egress import OAUTH2, SMTP, EgressPolicy, Entry, Purpose
from mailsettings.core.server import Source

BOTH, TENANT, NOBODY = "denied to both levels", "denied to tenants", "denied to nobody"


def denied_to(policy: EgressPolicy, address: str, port: int = 587) -> str:
    denied = {level for level in Source if policy.check(ip_address(address), port, level) is not None}
    return {0: NOBODY, 1: TENANT, 2: BOTH}[len(denied)] if denied != {Source.SYSTEM} else "denied to System only"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        # IPv4
        ("8.8.8.8", NOBODY),
        ("1.0.0.1", NOBODY),
        ("223.255.255.254", NOBODY),
        ("127.0.0.1", BOTH),
        ("127.255.255.254", BOTH),
        ("126.255.255.255", NOBODY),
        ("128.0.0.0", NOBODY),
        ("0.0.0.0", BOTH),
        ("0.1.2.3", BOTH),
        ("169.254.0.1", BOTH),
        ("169.254.169.254", BOTH),
        ("100.100.100.200", BOTH),
        ("168.63.129.16", BOTH),
        ("192.0.0.192", BOTH),
        ("224.0.0.1", BOTH),
        ("239.255.255.255", BOTH),
        ("240.0.0.1", BOTH),
        ("255.255.255.255", BOTH),
        ("10.0.0.1", TENANT),
        ("10.255.255.255", TENANT),
        ("11.0.0.0", NOBODY),
        ("172.15.255.255", NOBODY),
        ("172.16.0.0", TENANT),
        ("172.31.255.255", TENANT),
        ("172.32.0.0", NOBODY),
        ("192.168.255.255", TENANT),
        ("100.64.0.1", TENANT),
        ("100.127.255.255", TENANT),
        ("100.128.0.0", NOBODY),
        ("192.0.0.8", TENANT),
        ("192.0.2.1", TENANT),
        ("192.88.99.1", TENANT),
        ("198.18.0.1", TENANT),
        ("198.19.255.255", TENANT),
        ("198.51.100.1", TENANT),
        ("203.0.113.1", TENANT),
        # IPv6
        ("2606:4700::1111", NOBODY),
        ("2a00:1450:4001:81b::200e", NOBODY),
        ("::1", BOTH),
        ("::", BOTH),
        ("fe80::1", BOTH),
        ("fe80::1%eth0", BOTH),
        ("ff02::1", BOTH),
        ("fd00:ec2::254", BOTH),
        ("fd20:ce::254", BOTH),
        ("fc00::1", TENANT),
        ("fd12:3456::1", TENANT),
        ("fec0::1", TENANT),
        ("2001:db8::1", TENANT),
        ("3fff::1", TENANT),
        ("2001:2::1", TENANT),
        ("100::1", TENANT),
        ("5f00::1", TENANT),
        ("4000::1", BOTH),
        ("200::1", BOTH),
        # IPv4 inside IPv6
        ("::ffff:127.0.0.1", BOTH),
        ("::ffff:7f00:1", BOTH),
        ("::ffff:10.0.0.1", TENANT),
        ("::ffff:8.8.8.8", NOBODY),
        ("::ffff:169.254.169.254", BOTH),
        ("::127.0.0.1", BOTH),
        ("::8.8.8.8", BOTH),
        ("64:ff9b::8.8.8.8", NOBODY),
        ("64:ff9b::10.0.0.1", TENANT),
        ("64:ff9b::127.0.0.1", BOTH),
        ("64:ff9b::169.254.169.254", BOTH),
        ("64:ff9b:1::8.8.8.8", TENANT),
        ("64:ff9b:1::127.0.0.1", BOTH),
        ("2002:7f00:1::1", BOTH),  # 6to4 of 127.0.0.1
        ("2002:a00:1::1", TENANT),  # 6to4 of 10.0.0.1
        ("2002:808:808::1", NOBODY),  # 6to4 of 8.8.8.8
        ("2001:0:808:808:0:0:80ff:fffe", BOTH),  # Teredo client 127.0.0.1
        ("2001:0:808:808:0:0:f5ff:fffe", TENANT),  # Teredo client 10.0.0.1
        ("2001:0:7f00:1:0:0:f7f7:f7f7", BOTH),  # Teredo server 127.0.0.1
        ("2001:0:808:808:0:0:f7f7:f7f7", NOBODY),  # Teredo, both public
        ("::ffff:0:7f00:1", BOTH),  # translated by SIIT
    ],
)
def test_each_kind_of_address(address: str, expected: str) -> None:
    assert denied_to(EgressPolicy(), address) == expected


@pytest.mark.parametrize("port", [25, 465, 587, 2525])
def test_smtp_ports_are_open(port: int) -> None:
    assert EgressPolicy().check(ip_address("8.8.8.8"), port, Source.TENANT) is None


@pytest.mark.parametrize("port", [1, 22, 24, 26, 80, 443, 464, 466, 588, 2524, 3306, 6443, 8080, 65535])
def test_other_ports_are_closed_to_both_levels(port: int) -> None:
    for level in Source:
        denial = EgressPolicy().check(ip_address("8.8.8.8"), port, level)
        assert denial is not None
        assert denial.text == f"port {port} is not an SMTP port"


def test_configured_smtp_ports_are_open_too() -> None:
    policy = EgressPolicy.parse(smtp_ports="1025, 26")
    for port in (25, 26, 465, 587, 1025, 2525):
        assert denied_to(policy, "8.8.8.8", port) == NOBODY
    assert denied_to(policy, "8.8.8.8", 1026) == BOTH


@pytest.mark.parametrize(
    ("allow", "deny", "address", "port", "expected"),
    [
        ("127.0.0.0/8", "", "127.0.0.1", 587, NOBODY),
        ("127.0.0.0/8", "", "127.0.0.1", 8025, BOTH),  # without a port the SMTP ports only
        ("127.0.0.0/8:*", "", "127.0.0.1", 8025, NOBODY),
        ("127.0.0.0/8:8025", "", "127.0.0.1", 8025, NOBODY),
        ("127.0.0.0/8:8025", "", "127.0.0.1", 587, BOTH),  # with a port that one only
        ("127.0.0.0/8:8000-8999", "", "127.0.0.1", 8999, NOBODY),
        ("127.0.0.0/8:8000-8999", "", "127.0.0.1", 9000, BOTH),
        ("127.0.0.0/8:*", "", "::1", 587, BOTH),
        ("[::1/128]:*", "", "::1", 8025, NOBODY),
        ("::1", "", "::1", 587, NOBODY),
        ("127.0.0.0/8:*", "", "::ffff:127.0.0.1", 8025, NOBODY),  # one notation of the same address
        ("10.20.0.0/16", "", "10.20.255.255", 25, NOBODY),
        ("10.20.0.0/16", "", "10.21.0.0", 25, TENANT),
        ("10.20.0.0/16:25 10.20.0.0/16:2000-2999,[fd00::/8]:*", "", "10.20.1.1", 2500, NOBODY),
        ("10.20.0.0/16:25 10.20.0.0/16:2000-2999,[fd00::/8]:*", "", "fd00::7", 9, NOBODY),
        ("64:ff9b::/96", "", "64:ff9b::127.0.0.1", 587, BOTH),  # the embedded address counts all the same
        ("64:ff9b::/96 127.0.0.0/8", "", "64:ff9b::127.0.0.1", 587, NOBODY),
        ("", "8.8.8.0/24", "8.8.8.8", 587, BOTH),
        ("", "8.8.8.0/24:25", "8.8.8.8", 587, NOBODY),
        ("", "8.8.8.0/24:25", "8.8.8.8", 25, BOTH),
        ("", "8.8.8.0/24", "64:ff9b::8.8.8.8", 587, BOTH),
        ("8.8.8.8:*", "8.8.8.0/24", "8.8.8.8", 587, BOTH),  # deny wins
        ("10.0.0.0/8:*", "10.96.0.0/12", "10.96.0.1", 6443, BOTH),
        ("0.0.0.0/0:*", "", "169.254.169.254", 80, NOBODY),  # what an admin writes out is meant
    ],
)
def test_entries(allow: str, deny: str, address: str, port: int, expected: str) -> None:
    assert denied_to(EgressPolicy.parse(allow=allow, deny=deny), address, port) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "10.0.0.0/33",
        "10.0.0.1/8",  # host bits: a slip of the pen
        "10.0.0.0/8:",
        "10.0.0.0/8:0",
        "10.0.0.0/8:65536",
        "10.0.0.0/8:587-25",
        "10.0.0.0/8:smtp",
        "10.0.0.0/8:25:26",
        "10.0.0.0/8:-25",
        "10.0.0.0/8:٢٥",
        "fd00::/8:25",
        "[fd00::/8",
        "[fd00::/8]25",
        "[]:25",
        "010.0.0.1",
        "587",
        "*",
    ],
)
def test_unreadable_entries_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Entry.parse(text)


def test_unreadable_configuration_repeats_the_entry() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8:99999|99999"):
        EgressPolicy.parse(allow="127.0.0.1, 10.0.0.0/8:99999")
    with pytest.raises(ValueError, match="'smtp' is not a port"):
        EgressPolicy.parse(smtp_ports="smtp")


@given(address=st.ip_addresses(), port=st.integers(1, 65535), level=st.sampled_from(Source))
def test_every_address_is_decided_and_never_shown(address: IPv4Address | IPv6Address, port: int, level: Source) -> None:
    denial = EgressPolicy().check(address, port, level)
    assert denial is None or str(address) not in denial.text


@given(address=st.ip_addresses(), port=st.sampled_from([25, 465, 587, 2525]))
def test_tenants_may_nothing_that_the_system_may_not(address: IPv4Address | IPv6Address, port: int) -> None:
    policy = EgressPolicy()
    if policy.check(address, port, Source.SYSTEM) is not None:
        assert policy.check(address, port, Source.TENANT) is not None


@given(address=st.ip_addresses(v=4), level=st.sampled_from(Source))
def test_translated_notations_never_widen(address: IPv4Address, level: Source) -> None:
    policy = EgressPolicy()
    plain = policy.check(address, 587, level)
    mapped = policy.check(IPv6Address(0xFFFF << 32 | int(address)), 587, level)
    nat64 = policy.check(IPv6Address(0x64FF9B << 96 | int(address)), 587, level)
    sixtofour = policy.check(IPv6Address(0x2002 << 112 | int(address) << 80), 587, level)
    assert mapped == plain
    assert nat64 == plain
    assert sixtofour == plain


@given(address=st.ip_addresses())
def test_tenants_never_reach_what_the_standard_library_calls_special(
    address: IPv4Address | IPv6Address,
) -> None:
    """An independent opinion on the table of ranges."""
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    assert not special or EgressPolicy().check(address, 587, Source.TENANT) is not None


@pytest.mark.parametrize(
    ("host", "port", "listed"),
    [
        ("proxy.acme.example", 3128, True),
        ("PROXY.Acme.Example.", 3128, True),
        ("proxy.acme.example", 3129, False),
        ("proxy.acme.example.evil.example", 3128, False),
        ("10.0.0.7", 1080, True),
        ("::1", 1080, False),
        ("fd00::7", 1080, True),
    ],
)
def test_tenants_may_name_listed_proxies_only(host: str, port: int, listed: bool) -> None:
    policy = EgressPolicy.parse(proxies="Proxy.acme.example.:3128, 10.0.0.7:1080 [FD00::7]:1080")
    assert (policy.check_proxy_name(host, port, Source.TENANT) is None) == listed
    assert policy.check_proxy_name(host, port, Source.SYSTEM) is None
    # Whoever lists a proxy vouches for its address; without that it is judged like any other.
    private = ip_address("10.0.0.7")
    assert (policy.check_proxy(host, private, port, Source.TENANT) is None) == listed
    assert policy.check_proxy(host, private, port, Source.SYSTEM) is None
    assert (policy.check_proxy(host, ip_address("127.0.0.1"), port, Source.SYSTEM) is None) == listed


def test_what_is_denied_is_denied_to_listed_proxies_too() -> None:
    policy = EgressPolicy.parse(deny="10.0.0.0/24", proxies="proxy.acme.example:3128")
    for level in Source:
        assert policy.check_proxy("proxy.acme.example", ip_address("10.0.0.7"), 3128, level) is not None
        assert policy.check_proxy("proxy.acme.example", ip_address("::ffff:10.0.0.7"), 3128, level) is not None
        assert policy.check_proxy("proxy.acme.example", ip_address("10.0.1.7"), 3128, level) is None


@pytest.mark.parametrize(
    "text", ["proxy", "proxy:", ":3128", "proxy:0", "proxy:65536", "http://proxy:3128", "fd00::7:1080"]
)
def test_a_proxy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a p"):
        EgressPolicy.parse(proxies=text)


@pytest.mark.parametrize("level", [*Source])
@pytest.mark.parametrize("purpose", [SMTP, OAUTH2])
def test_a_persons_own_machine_connects_anywhere_but_to_metadata_services(level: Source, purpose: Purpose) -> None:
    policy = replace(EgressPolicy.of_a_person(), purpose=purpose)
    for text in ("127.0.0.1", "10.1.2.3", "192.0.2.1", "::1", "fd00::1", "2001:db8::1"):
        assert policy.check(ip_address(text), 2626, level) is None
    for text in ("169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"):
        assert policy.check(ip_address(text), 587, level) is not None
