"""What is warned of in a sender's DNS: rules over records, and the questions to a real server."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import pytest

from mailsettings.api.providers import PROVIDERS
from mailsettings.core.sender_dns import MAX_SPF_LOOKUPS, Question, RecordType, Sender, warnings
from mailsettings.edges.sender_dns import sender_warnings
from tests.support.dns_server import Zone, dns_server

DOMAIN: Final = "acme.example"
TXT, MX, A, AAAA = RecordType.TXT, RecordType.MX, RecordType.A, RecordType.AAAA
DMARC: Final = {(f"_dmarc.{DOMAIN}", TXT): ["v=DMARC1; p=none"]}
MAIL_HOST: Final = {(DOMAIN, MX): ["mx.acme.example."]}
Records = Mapping[tuple[str, RecordType], Sequence[str]]


def asked(records: Records, provider: str = "Google", domain: str = DOMAIN) -> tuple[list[str], list[Question]]:
    """What is warned of, and what was asked."""
    questions: list[Question] = []
    asking = warnings(Sender(domain, provider))
    question = next(asking)
    while True:
        questions.append(question)
        try:
            question = asking.send(records.get((question.name, question.type), ()))
        except StopIteration as end:
            return end.value, questions


def spf(*records: str, provider: str = "Google") -> list[str]:
    """What is warned of where all but SPF is as it should be."""
    return asked({**DMARC, **MAIL_HOST, (DOMAIN, TXT): records}, provider)[0]


@pytest.mark.parametrize("provider", [name for name, each in PROVIDERS.items() if each.spf_include])
def test_domain_that_names_its_provider_is_warned_of_nothing(provider: str) -> None:
    include = PROVIDERS[provider].spf_include
    assert spf("google-site-verification=x", f"v=spf1 mx include:{include} ~all", provider=provider) == []
    assert spf(f"V=SPF1 INCLUDE:{include}. -all", provider=provider) == []
    (warning,) = spf("v=spf1 include:elsewhere.example -all", provider=provider)
    assert f"does not name {PROVIDERS[provider].title}: add include:{include}" in warning


def test_include_may_be_further_down() -> None:
    deep = {"a.example": "v=spf1 include:b.example -all", "b.example": "v=spf1 redirect=_spf.google.com"}
    records = {(name, TXT): [text] for name, text in deep.items()}
    assert asked({**DMARC, **MAIL_HOST, (DOMAIN, TXT): ["v=spf1 include:a.example -all"], **records})[0] == []


@pytest.mark.parametrize("records", [(), ("v=spf10 -all",), ("spf1",)])
def test_domain_without_spf_is_told_what_to_add(records: tuple[str, ...]) -> None:
    (warning,) = spf(*records)
    assert "`v=spf1 include:_spf.google.com ~all`" in warning
    (custom,) = spf(*records, provider="Custom")
    assert "names the addresses of the server" in custom


def test_two_spf_records_are_an_error() -> None:
    (warning,) = spf("v=spf1 include:_spf.google.com -all", "v=spf1 -all")
    assert "2 SPF records" in warning


def test_custom_server_may_have_any_spf_record() -> None:
    assert spf("v=spf1 ip4:192.0.2.1 -all", provider="Custom") == []


def test_too_many_look_ups_are_an_error_and_end_the_questions() -> None:
    names = [f"i{number}.example" for number in range(30)]
    everything: dict[tuple[str, RecordType], list[str]] = {
        (DOMAIN, TXT): [f"v=spf1 {' '.join(f'include:{name}' for name in names)} -all"],
        **{(name, TXT): ["v=spf1 a mx -all"] for name in names},
    }
    found, questions = asked({**DMARC, **MAIL_HOST, **everything})
    assert "more than 10 look-ups" in found[0]
    assert len([each for each in questions if each.type is TXT and each.name in names]) <= MAX_SPF_LOOKUPS


@pytest.mark.parametrize(
    "bomb",
    [
        {"a.example": "v=spf1 include:a.example -all"},
        {"a.example": "v=spf1 include:b.example -all", "b.example": "v=spf1 include:a.example include:a.example"},
        {
            f"{letter}.example": "v=spf1 " + " ".join(f"include:{each}.example" for each in "abcdef")
            for letter in "abcdef"
        },
        {"a.example": "v=spf1 redirect=acme.example"},
    ],
)
def test_records_that_name_each_other_end(bomb: dict[str, str]) -> None:
    records = {(name, TXT): [text] for name, text in bomb.items()}
    found, questions = asked({**DMARC, **MAIL_HOST, (DOMAIN, TXT): ["v=spf1 include:a.example -all"], **records})
    assert len(found) == 1
    assert len(questions) <= MAX_SPF_LOOKUPS + 4


@pytest.mark.parametrize(
    ("domain", "at", "is_there"),
    [
        ("acme.example", "_dmarc.acme.example", True),
        ("mail.acme.example", "_dmarc.acme.example", True),
        ("a.b.mail.acme.example", "_dmarc.acme.example", True),
        ("acme.example", "_dmarc.example", False),
        ("acme.example", "_dmarc.other.example", False),
    ],
)
def test_dmarc_may_be_the_domains_own_or_of_one_above(domain: str, at: str, is_there: bool) -> None:
    records = {(domain, TXT): ["v=spf1 include:_spf.google.com"], (domain, MX): ["mx."], (at, TXT): ["v=DMARC1;p=none"]}
    found, questions = asked(records, domain=domain)
    assert (found == []) is is_there
    assert not [each for each in questions if each.name == "_dmarc.example"]


@pytest.mark.parametrize("records", [["v=DMARC2; p=none"], ["v=DMARC1; p=none", "v=DMARC1; p=reject"], ["p=none"]])
def test_what_is_no_single_dmarc_record_counts_as_none(records: list[str]) -> None:
    all_but = {**MAIL_HOST, (DOMAIN, TXT): ["v=spf1 include:_spf.google.com"]}
    (warning,), _ = asked({**all_but, (f"_dmarc.{DOMAIN}", TXT): records})
    assert "no DMARC record" in warning


@pytest.mark.parametrize(
    ("hosts", "warned"),
    [
        ({(DOMAIN, MX): ["mx.acme.example."]}, None),
        ({(DOMAIN, A): ["192.0.2.1"]}, None),
        ({(DOMAIN, AAAA): ["2001:db8::1"]}, None),
        ({(DOMAIN, MX): ["."]}, "takes no mail"),
        ({}, "neither MX nor address records"),
    ],
)
def test_answers_and_bounces_need_somewhere_to_go(hosts: Records, warned: str | None) -> None:
    found, _ = asked({**DMARC, **hosts, (DOMAIN, TXT): ["v=spf1 include:_spf.google.com"]})
    assert (found == []) if warned is None else warned in found[0]


# Asked of a real server

HEALTHY: Final[Zone] = {
    (DOMAIN, "TXT"): ['"v=spf1 inc" "lude:_spf.google.com -all"', '"other"'],
    (f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=none"'],
    (DOMAIN, "MX"): ["10 mx.acme.example."],
}


async def test_strings_of_a_record_belong_together() -> None:
    async with dns_server(HEALTHY) as server:
        assert await sender_warnings(Sender(DOMAIN, "Google"), resolver=server.resolver()) == ()
    assert server.asked == [(DOMAIN, "TXT"), (f"_dmarc.{DOMAIN}", "TXT"), (DOMAIN, "MX")]


async def test_domain_that_does_not_exist_lacks_everything() -> None:
    async with dns_server(HEALTHY) as server:
        found = await sender_warnings(Sender("nowhere.example", "SendGrid"), resolver=server.resolver())
    assert [each.split(" has ")[0] for each in found] == ["nowhere.example"] * 3
    assert "include:sendgrid.net" in found[0]


async def test_null_mx_is_seen() -> None:
    async with dns_server({**HEALTHY, (DOMAIN, "MX"): ["0 ."]}) as server:
        (warning,) = await sender_warnings(Sender(DOMAIN, "Google"), resolver=server.resolver())
    assert "takes no mail" in warning


async def test_dns_that_does_not_answer_is_no_warning() -> None:
    async with dns_server(HEALTHY, silent=True) as server:
        within = timedelta(milliseconds=300)
        assert (
            await sender_warnings(Sender("nowhere.example", "Google"), resolver=server.resolver(), within=within) == ()
        )
    assert server.asked


async def test_what_is_known_is_told_though_something_else_is_not_answered() -> None:
    async with dns_server({(DOMAIN, "TXT"): ['"other"'], (DOMAIN, "MX"): ["0 ."]}) as server:
        server.failing = [(f"_dmarc.{DOMAIN}", "TXT")]
        found = await sender_warnings(Sender(DOMAIN, "Google"), resolver=server.resolver())
    assert ["SPF" in found[0], "takes no mail" in found[1]] == [True, True]
    assert len(found) == 2


async def test_what_is_known_at_the_deadline_is_told() -> None:
    async with dns_server({(DOMAIN, "TXT"): ['"other"']}) as server:
        server.mute = [(f"_dmarc.{DOMAIN}", "TXT")]
        within = timedelta(seconds=2)
        (warning,) = await sender_warnings(Sender(DOMAIN, "Google"), resolver=server.resolver(), within=within)
    assert "SPF" in warning


@pytest.mark.parametrize(
    "name", [f"{'a' * 64}.example", "a..example", ".".join(["a" * 60] * 6)], ids=["label", "empty", "name"]
)
async def test_name_that_is_none_is_not_asked_for(name: str) -> None:
    record = f"v=spf1 include:{name} include:_spf.google.com -all"
    strings = [f'"{record[start : start + 200]}"' for start in range(0, len(record), 200)]
    zone: Zone = {**HEALTHY, (DOMAIN, "TXT"): [" ".join(strings)]}
    async with dns_server(zone) as server:
        assert await sender_warnings(Sender(DOMAIN, "Google"), resolver=server.resolver()) == ()
