"""Hypothesis strategies for specs that are right, or wrong in one or two places.

Every leaf is drawn from values on both sides of its bounds, mostly the good side, so that about half of all specs are
accepted; then a spec is mutated now and then in a place that no leaf would think of.
"""

# ruff: noqa: RUF001 - digits of other scripts are the point

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from mailsettings.api.providers import PROVIDERS
from mailsettings.api.template import PLACEHOLDERS, RESERVED_KEYS, Preset

Json = Any
Path = tuple[str | int, ...]

ARABIC_DIGITS: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
FULLWIDTH_DIGITS: Final = str.maketrans("0123456789", "０１２３４５６７８９")


def _mostly(good: st.SearchStrategy[Json], odd: st.SearchStrategy[Json], weight: int = 24) -> st.SearchStrategy[Json]:
    """`good`, and `odd` about once in `weight + 1` times. (`one_of` counts a strategy that is named twice once.)"""
    return st.integers(0, weight).flatmap(lambda drawn: odd if drawn == weight else good)


def _leaf(good: tuple[Json, ...], odd: tuple[Json, ...]) -> st.SearchStrategy[Json]:
    return _mostly(st.sampled_from(good), st.sampled_from(odd))


def _object(
    optional: dict[str, st.SearchStrategy[Json]], required: dict[str, st.SearchStrategy[Json]] | None = None
) -> st.SearchStrategy[Json]:
    """An object whose optional fields are there, absent or null, and whose required ones are missing now and then."""
    nullable = {key: _mostly(value, st.none(), 7) for key, value in optional.items()}
    whole = st.fixed_dictionaries(required or {}, optional=nullable)
    if not required:
        return whole
    return _mostly(whole, st.fixed_dictionaries({}, optional={**nullable, **required}), 20)


def _long(count: int, item: Callable[[int], str]) -> list[str]:
    return [item(number) for number in range(count)]


_LABEL_63 = "a" * 63
_HOST_253 = ".".join([_LABEL_63] * 3 + ["b" * 61])
_ADDRESS_320 = f"{'x' * 66}@{_HOST_253}"

_ADDRESS = _leaf(
    ("a@b", "no-reply@acme.example", "o'neil+tag@xn--bcher-kva.example", f"x@{_LABEL_63}", _ADDRESS_320),
    (
        "", "a", "@b", "a@", "a@b\n", "\na@b", "a@b.", "a@.b", "a.@b", ".a@b", "a..a@b", "a@b..c", "a@-b", "a@b-",
        "a b@c", "ä@b.example", "a@bücher.example", "a@b_c", '"a"@b', "a@[127.0.0.1]", "a@b@c", f"x@a{_LABEL_63}",
        f"x{_ADDRESS_320}", "a@b\x00", "\N{KELVIN SIGN}@b", "a@\N{LATIN SMALL LETTER LONG S}", 5, True, ["a@b"],
    ),
)  # fmt: skip
_SEPARATORS = tuple("\u00ad\u061c\u180e\u200b\u2028\u2029\u202e\ufeff\U00013430\U0001343f\U000e0001\x85\x00\r\n\t\x7f")
_DISPLAY_NAME = st.one_of(
    st.sampled_from(
        ("Acme", "Ünïcode 日本語 🎉", " ", "O'Neil & Sons", "x\u0301", '"Acme, Inc."', '"a <b> @ c"', "\ufffe")
    ),
    st.text(max_size=6),
    st.sampled_from(_SEPARATORS).map(lambda separator: f"Acme{separator}Bcc"),
    st.sampled_from(_SEPARATORS).map(lambda separator: f'"Acme{separator}Bcc"'),
)
_MAILBOX = _mostly(
    st.one_of(_ADDRESS, st.sampled_from(("Acme <a@b>", "Ünïcode 日本語 <a@b.example>", '"Acme, Inc." <a@b>'))),
    st.one_of(
        _DISPLAY_NAME.map(lambda name: f"{name} <a@b.example>"),
        st.sampled_from(
            (
                f"{'n' * 394} <a@b>", f"{'n' * 395} <a@b>", f"{'🎉' * 394} <a@b>", f"{'🎉' * 395} <a@b>", "<a@b>",
                "Acme<a@b>", "Acme <a@b> ", "Acme <a@b>\n", 'A "B" <a@b>', '"A\\"B" <a@b>', "Acme, Inc. <a@b>",
                "Acme  <a@b>",
            )
        ),
    ),
    5,
)  # fmt: skip
_HOST = _leaf(
    (
        "smtp.acme.example", "smtp.acme.example.", "localhost", "127.0.0.1", "::1", "2001:db8::1", "::ffff:127.0.0.1",
        "_smtp.a_b", _HOST_253, _LABEL_63, "SMTP.Example",
    ),
    (
        "", " ", ".", "a..b", "-a", "a-", "a.-b", f"{_LABEL_63}a", f"{_HOST_253}a", f"{_HOST_253}.", "a:b", "host:25",
        "[::1]", "smtp://a", "a/b", "a b", "a\n", "a\r\nRCPT", "bücher.example", "1２7.0.0.1", "fe80::1%eth0", ":",
        "127.1", "0x7f.1", 25, None, ["a"], {"name": "a"},
    ),
)  # fmt: skip
_PORT = _leaf(
    (1, 25, 465, 587, 2525, 65535, 587.0),
    (
        0, -1, 65536, 587.5, 1e3, 1e300, -0.0, 0.0, 2**31, 2**31 + 587, 2**32 + 587, 2**63, 2**64 + 587, 10**25,
        "587", "", True, False, [], [587], {}, "٥٨٧",
    ),
)  # fmt: skip
_ODD_DURATIONS = (
    "99ms", "100ms", "119999ms", "99999ms", "120s", "121s", "2m", "3m", "1h", "0s", "00s", "01s", "1d", "10", "s", "",
    "1.5s", "-1s", "+1s", "1m30s", "10S", "10s\n", " 10s", "١0s", "１0s", "100000s", "99999h", "721h", "720h",
    "43200m", "43201m", "59s", "60s", "59999ms", "60000ms", "1us", "1µs", 10, 10.0, True,
)  # fmt: skip
_TIMEOUT = _leaf(("10s", "100ms", "2m", "120s", "99999ms"), _ODD_DURATIONS)
_INTERVAL = _leaf(("1m", "6h", "720h", "60s", "60000ms", "43200m"), _ODD_DURATIONS)
_BOOLEAN = _leaf((True, False), ("true", "yes", 0, 1, 1.0, "", [], {}))
_OBJECT_NAME = _leaf(
    ("smtp", "a.b-c.1", "a" * 253, "0"),
    ("", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a" * 254, "a\n", "ä", "a/b", "١", 1, True, ["a"]),
)
_NAMESPACE = _leaf(
    ("tenant-a", "t1", _LABEL_63),
    ("", "a.b", "A", "-a", "a-", f"{_LABEL_63}a", "a\n", "ä", "１", "*", None, 1, False, ["a"]),
)
_DATA_KEY_GOOD = ("key", "tls.crt", "A_b-c.9", "k" * 253, ".a..")
_DATA_KEY_ODD = ("", ".", "..", "..a", "a b", "a/b", "k" * 254, "k\n", "schlüssel", "٣", "a:b", 3, True)
_DATA_KEY = _leaf(_DATA_KEY_GOOD, _DATA_KEY_ODD)
_REF = _object({}, {"name": _OBJECT_NAME, "key": _DATA_KEY})
_USERNAME = _leaf(
    ("apikey", "user@acme.example", "ünï 🎉", "u" * 320, "🎉" * 320, "a@outlook.com.example",
        "a@live.acme.example", "a@myhotmail.com", "a@mail.live.com", "a@msn.com.au", "a@live.com@b.example"),
    (
        "", "u" * 321, "🎉" * 321, "a\n", "\x00", "\x7f", "\x85", "\u200b", "\u2028", "a@outlook.com", "A@OutLook.COM",
        "a@HOTMAIL.com", "a@ou\u017f.com", "a@outloo\N{KELVIN SIGN}.com", "@live.com", "live.com", "APIKEY",
        "a@hotmail.com.tr", "a@windowslive.com", "a@MSN.com", "a@passport.com", "a@live.c", "a@outlook.c\u043em",
        "apikey ", 5, True,
    ),
)  # fmt: skip

_CA_BUNDLE = _mostly(
    st.one_of(
        st.fixed_dictionaries({"configMapKeyRef": _REF}, optional={"secretKeyRef": st.none()}),
        st.fixed_dictionaries({"secretKeyRef": _REF}),
    ),
    _object({"configMapKeyRef": _REF, "secretKeyRef": _REF}),
    5,
)
_MIN_VERSION = _leaf(("TLSv1.2", "TLSv1.3"), ("TLSv1.1", "tlsv1.2", "TLSv1.2\n", "", 1.2))
_TLS_MODE = _leaf(("StartTLS", "Implicit"), ("Disabled", "starttls", "", "StartTLS\n", True, 0))
_TLS = _mostly(
    st.one_of(
        _object({"mode": _TLS_MODE, "minVersion": _MIN_VERSION, "caBundle": _CA_BUNDLE, "serverName": _HOST}),
        _object({"mode": _TLS_MODE, "insecureSkipVerify": _BOOLEAN}),
        st.just({"mode": "Disabled"}),
    ),
    _object(
        {
            "mode": st.sampled_from(("Disabled", "StartTLS")),
            "minVersion": _MIN_VERSION,
            "caBundle": _CA_BUNDLE,
            "serverName": _HOST,
            "insecureSkipVerify": _BOOLEAN,
        }
    ),
    4,
)
_PROXY_USERNAME = _leaf(("proxy-user", "ünï 🎉", "u" * 255, "a:b"), ("", "🎉" * 64, "u" * 256, "a\n", 5, ["a"]))
_PROXY_BASIC = _mostly(
    st.one_of(
        st.fixed_dictionaries({"username": _PROXY_USERNAME, "passwordSecretRef": _REF}),
        st.fixed_dictionaries({"usernameSecretRef": _REF, "passwordSecretRef": _REF}, optional={"username": st.none()}),
    ),
    _object({"username": _PROXY_USERNAME, "usernameSecretRef": _REF}, {"passwordSecretRef": _REF}),
    6,
)
_PROXY = st.fixed_dictionaries(
    {
        "protocol": _leaf(("SOCKS5", "HTTP"), ("http", "SOCKS4", "", 5)),
        "host": _HOST,
        "port": _mostly(st.sampled_from((1080, 3128, 65535)), _PORT, 8),
    },
    optional={"basic": _PROXY_BASIC},
)
_CONNECTION_FIELDS = {"port": _PORT, "timeout": _TIMEOUT, "tls": _TLS, "proxy": _mostly(st.none(), _PROXY, 3)}
_CONNECTION = _object({"host": _HOST, **_CONNECTION_FIELDS})
_CONNECTION_WITH_HOST = st.fixed_dictionaries({"host": _HOST}, optional=_CONNECTION_FIELDS)

_BASIC = _mostly(
    st.one_of(
        st.fixed_dictionaries({"username": _USERNAME, "passwordSecretRef": _REF}),
        st.fixed_dictionaries({"usernameSecretRef": _REF, "passwordSecretRef": _REF}, optional={"username": st.none()}),
    ),
    _object({"username": _USERNAME, "usernameSecretRef": _REF}, {"passwordSecretRef": _REF}),
    4,
)
_SECRET_METHOD = _leaf(("Basic", "Post"), ("basic", "", 1))
_CLIENT_AUTH = _mostly(
    st.one_of(
        st.fixed_dictionaries({"secretRef": _REF}, optional={"secretMethod": _SECRET_METHOD}),
        st.fixed_dictionaries({"certificateRef": _object({}, {"name": _OBJECT_NAME})}),
    ),
    _object(
        {
            "secretRef": _REF,
            "secretMethod": _SECRET_METHOD,
            "certificateRef": _object({}, {"name": _OBJECT_NAME}),
            "federation": _object({}, {"audience": _leaf(("api://AzureADTokenExchange", "a"), ("", "a b", "ä", 1))}),
        }
    ),
    5,
)
_CLIENT_ID = _leaf(("11112222-bbbb", "a b", "x" * 256), ("", "x" * 257, "ä", "a\n", "\x7f", 1, True))
_DIRECTORY_ID = _leaf(
    ("72f988bf-0000-4000-8000-2d7cd011db47", "acme.example", "A", "d" * 253, "commons"),
    ("", "common", "COMMON", "Organizations", "consumers", "a/b", "-a", "a-", "d" * 254, "a\n", "ä", "c\u017f", 1),
)
_TOKEN_URI = _leaf(
    (
        "https://login.acme.example/token", "https://127.0.0.1:8443", "https://h/a%20b;c?d=e&f=/?", "https://h?x",
        f"https://h/{'p' * 502}",
    ),
    (
        "", "http://h/token", "https://", "https:///token", "https://u:p@h/token", "https://h/a b", "https://h/#f",
        "https://h:123456", "HTTPS://h", "https://h\n", "https://[::1]/", "https://hö/", f"https://h/{'p' * 503}", 1,
    ),
)  # fmt: skip
_SCOPES = _mostly(
    st.lists(
        _leaf(("https://mail.google.com/", "mail.send", "!", "s" * 256), ("", "a b", 'a"b', "a\\b", "s" * 257, "ä", 1)),
        max_size=3,
        unique_by=repr,
    ),
    st.one_of(
        st.just(["a", "a"]), st.sampled_from((32, 33)).map(lambda count: _long(count, lambda number: f"s{number}"))
    ),
)
_ACCOUNT_CHECK = _mostly(
    st.one_of(
        st.fixed_dictionaries(
            {"claim": _leaf(("email", "a:b/c.d_e-9", "_", "c" * 128), ("", "1a", "c" * 129, "é", 1))}
        ),
        st.just({"skip": True}),
    ),
    _object({"claim": st.just("email"), "skip": _BOOLEAN}),
    4,
)
_OAUTH2_ODD = {
    "clientID": _CLIENT_ID,
    "clientAuth": _CLIENT_AUTH,
    "directoryID": _DIRECTORY_ID,
    "cloud": _leaf(("Public", "USGov", "China", "Custom"), ("public", "", 1)),
    "authorizationURI": _TOKEN_URI,
    "deviceAuthorizationURI": _TOKEN_URI,
    "tokenURI": _TOKEN_URI,
    "revocationURI": _TOKEN_URI,
    "scopes": _SCOPES,
    "accountCheck": _ACCOUNT_CHECK,
    "serviceAccountKeyRef": _REF,
    "refreshTokenSecretRef": _REF,
}
_GRANT_FIELDS: Final[dict[str, dict[str, st.SearchStrategy[Json]]]] = {
    "ClientCredentials": {"clientID": _CLIENT_ID, "clientAuth": _CLIENT_AUTH},
    "RefreshToken": {"clientID": _CLIENT_ID, "refreshTokenSecretRef": _REF},
    "ServiceAccount": {"serviceAccountKeyRef": _REF},
    "AuthorizationCode": {"clientID": _CLIENT_ID},
    "DeviceCode": {"clientID": _CLIENT_ID},
    "Password": {"clientID": _CLIENT_ID},
}
_GRANTS: Final = tuple(grant for grant in _GRANT_FIELDS if grant != "Password")


def _oauth2(
    grant: str, required: dict[str, st.SearchStrategy[Json]], optional: dict[str, st.SearchStrategy[Json]]
) -> st.SearchStrategy[Json]:
    fixed = {"username": _USERNAME, "grant": st.just(grant), **_GRANT_FIELDS[grant], **required}
    whole = st.fixed_dictionaries(fixed, optional={**optional, "scopes": _SCOPES})
    return _mostly(
        whole,
        _object(_OAUTH2_ODD, {"username": _USERNAME, "grant": _leaf(_GRANTS, ("Password", "", 1))}),
        6,
    )


_SECRET_AUTH = {"clientAuth": st.fixed_dictionaries({"secretRef": _REF})}
_ENDPOINT = st.sampled_from(("https://login.acme.example/begin", "https://LOGIN.acme.example?x=/y", "https://h:443/"))


def _consent(grant: str, endpoint: str, required: dict[str, st.SearchStrategy[Json]]) -> st.SearchStrategy[Json]:
    uris = {endpoint: _ENDPOINT, "tokenURI": _mostly(_ENDPOINT, _TOKEN_URI, 3)}
    custom = {"revocationURI": _ENDPOINT} if "accountCheck" in required else {}
    return _oauth2(grant, {**uris, **required}, custom)


_CONSENT_ENDPOINTS: Final = {"AuthorizationCode": "authorizationURI", "DeviceCode": "deviceAuthorizationURI"}
_OAUTH2_BY_PROVIDER: Final = {
    "Custom": st.one_of(
        *(_oauth2(grant, {"tokenURI": _TOKEN_URI}, {}) for grant in ("ClientCredentials", "RefreshToken")),
        _oauth2("RefreshToken", {"tokenURI": _ENDPOINT}, {"revocationURI": _ENDPOINT}),
        _oauth2("Password", {"tokenURI": _TOKEN_URI}, {}),
        *(
            _consent(grant, endpoint, {"accountCheck": _ACCOUNT_CHECK})
            for grant, endpoint in _CONSENT_ENDPOINTS.items()
        ),
    ),
    "Google": st.one_of(
        _oauth2("RefreshToken", _SECRET_AUTH, {"tokenURI": _TOKEN_URI}),
        _oauth2("ServiceAccount", {}, {}),
        _oauth2("AuthorizationCode", _SECRET_AUTH, {}),
        _consent("AuthorizationCode", "authorizationURI", _SECRET_AUTH),
    ),
    "Office365": st.one_of(
        *(
            _oauth2(grant, {"directoryID": _DIRECTORY_ID}, {"cloud": st.sampled_from(("Public", "Custom"))})
            for grant in ("ClientCredentials", "RefreshToken", "AuthorizationCode", "DeviceCode")
        )
    ),
}


def _oauth2_server(required: dict[str, st.SearchStrategy[Json]]) -> st.SearchStrategy[Json]:
    """Specs of a server with OAuth2: mostly such as its provider has it."""
    return st.sampled_from(tuple(_OAUTH2_BY_PROVIDER)).flatmap(
        lambda name: st.fixed_dictionaries(
            {
                **required,
                "provider": _mostly(st.just(name), st.sampled_from(("SendGrid", *_OAUTH2_BY_PROVIDER)), 9),
                "connection": st.just({"host": "h"}),
                "auth": st.fixed_dictionaries({"oauth2": _OAUTH2_BY_PROVIDER[name]}),
            }
        )
    )


_AUTH = _mostly(
    _object({}, {"basic": _BASIC}),
    _object({"basic": _BASIC, "oauth2": st.one_of(*_OAUTH2_BY_PROVIDER.values())}),
    12,
)
_SENDGRID_AUTH = _object(
    {}, {"basic": _object({"username": _leaf(("apikey",), ("a", "apikey\n"))}, {"passwordSecretRef": _REF})}
)

_PROBE = _mostly(
    _object(
        {"mode": _leaf(("Disabled", "Connect", "Authenticate"), ("Send", "connect", "", 1)), "interval": _INTERVAL}
    ),
    _object({"mode": st.sampled_from(("Send", "Connect")), "interval": _INTERVAL, "recipient": _ADDRESS}),
    3,
)

_LABEL_KEY = _leaf(
    ("team", "acme.example/team", "A.b_c-9", f"{'a' * 189}/{'b' * 63}", "b" * 63, "mailsettings.dev.example/x"),
    (
        "", "/", "a/", "/a", "a/b/c", "A.example/team", "a b", "-a", "a-", "b" * 64, f"{'a' * 190}/{'b' * 63}", "a\n",
        "tëam", "٣", "mailsettings.dev/x", "app.kubernetes.io/managed-by", "mailsettings.dev/",
        "unused.mailsettings.dev/x",
    ),
)  # fmt: skip
_LABEL_VALUE = _leaf(
    ("", "mail", "A.b_c-9", "v" * 63),
    ("v" * 64, "-a", "a-", "a b", "a\n", "\n", "wért", "٣", 1, True, None, [], {}),
)
_ANNOTATION_VALUE = _leaf(
    ("", "any text\nat all \x00 🎉", "v" * 4096, "🎉" * 4096), ("v" * 4097, "🎉" * 4097, 1, False, None, [])
)
_MANY_LABELS = st.sampled_from((32, 33)).map(lambda count: {f"key-{number}": "v" for number in range(count)})
_METADATA = _object(
    {
        "labels": _mostly(st.dictionaries(_LABEL_KEY, _LABEL_VALUE, max_size=3), _MANY_LABELS),
        "annotations": _mostly(st.dictionaries(_LABEL_KEY, _ANNOTATION_VALUE, max_size=3), _MANY_LABELS),
    }
)
_TEMPLATE_TEXT = _leaf(
    (
        "", "plain\nlines \x00 🎉", "$$", "$$${host}:${port}", "x" * 2048, "🎉" * 2048, "$${nothing}",
        *(f"${{{name}}}" for name in PLACEHOLDERS),
    ),
    ("$", "${", "${}", "${hos}", "${host", "$host", "$$$", "${host:url}", "${ host}", "${HOST}", "x" * 2049, "$\n",
    1, None, []),
)  # fmt: skip
_TEMPLATE_DATA = _mostly(
    st.dictionaries(st.sampled_from(_DATA_KEY_GOOD), _TEMPLATE_TEXT, max_size=3),
    st.one_of(
        st.dictionaries(st.sampled_from((*_DATA_KEY_ODD[:-2], *RESERVED_KEYS)), _TEMPLATE_TEXT, min_size=1, max_size=2),
        st.sampled_from((32, 33)).map(lambda count: {f"key-{number}": "${host}" for number in range(count)}),
    ),
    10,
)
_PRESETS = _mostly(
    st.lists(st.sampled_from([preset.value for preset in Preset]), max_size=4, unique=True),
    st.lists(st.sampled_from(("Django", "Spring", "django", "", None, 1)), max_size=9),
)
_TEMPLATE = _object({"presets": _PRESETS, "data": _TEMPLATE_DATA})
_CLUSTER_OUTPUT_FIELDS = {"metadata": _METADATA, "template": _TEMPLATE}

_REQUIREMENT = _mostly(
    st.one_of(
        st.fixed_dictionaries(
            {
                "key": _LABEL_KEY,
                "operator": st.sampled_from(("In", "NotIn")),
                "values": st.lists(_LABEL_VALUE, min_size=1, max_size=3),
            }
        ),
        st.fixed_dictionaries(
            {"key": _LABEL_KEY, "operator": st.sampled_from(("Exists", "DoesNotExist"))},
            optional={"values": st.sampled_from(([], None))},
        ),
    ),
    _object(
        {"values": _mostly(st.lists(_LABEL_VALUE, max_size=2), st.sampled_from((["v"] * 64, ["v"] * 65)))},
        {"key": _LABEL_KEY, "operator": _leaf(("In", "Exists"), ("in", "Gt", "", 1))},
    ),
    5,
)
_SELECTOR = _object(
    {
        "matchLabels": _mostly(st.dictionaries(_LABEL_KEY, _LABEL_VALUE, max_size=3), _MANY_LABELS),
        "matchExpressions": _mostly(
            st.lists(_REQUIREMENT, max_size=2),
            st.sampled_from((32, 33)).map(lambda count: [{"key": "a", "operator": "Exists"}] * count),
        ),
    }
)
_NAMESPACES = _mostly(
    st.lists(_NAMESPACE, max_size=3, unique_by=repr),
    st.one_of(
        st.lists(st.sampled_from(("tenant-a", "tenant-b", None)), max_size=3),
        st.sampled_from((1024, 1025)).map(lambda count: _long(count, lambda number: f"tenant-{number}")),
    ),
)
_FROM_PATTERN = _leaf(
    ("*@acme.example", "*@*", "{namespace}@acme.example", "no-reply+{namespace}@*.example", "a@b", f"{'x' * 318}@b"),
    ("", "@", "a@", "@b", "a", "a@b\n", "a b@c", "ä@b", "a@b_c", "a@b@c", f"{'x' * 319}@b", "a@１", None, 1),
)
_FROM_PATTERNS = _mostly(
    st.lists(_FROM_PATTERN, max_size=3, unique_by=repr),
    st.one_of(
        st.just(["*@a.b", "*@a.b"]),
        st.sampled_from((64, 65)).map(lambda count: _long(count, lambda number: f"a{number}@b.c")),
    ),
)
_RATES = ("1000:60", "1:1,2:60,3:3600,4:86400", "999999999:9999999")
_POLICY = {
    "sending": _leaf(("Allowed", "Blocked"), ("blocked", "", True)),
    "foreignSender": _leaf(("Refuse", "Rewrite"), ("refuse", "", 1)),
    "recipientDomains": _mostly(
        st.lists(
            _leaf(("acme.example", "*.acme.example", "localhost"), ("*", "*acme", "a.*.b", "a..b", "a\n", "ä.b", 1)),
            max_size=3,
            unique_by=repr,
        ),
        st.sampled_from((64, 65)).map(lambda count: _long(count, lambda number: f"d{number}.example")),
    ),
    "maxMessageSize": _leaf(("1Ki", "25Mi", "999999Mi"), ("0Mi", "25", "25M", "1Gi", "1000000Ki", "1Ki\n", 25)),
    "rateLimits": _leaf(_RATES, ("", "1", "0:1", "1:0", "1:1,", "1:1 ,2:2", "1:1,1:1,1:1,1:1,1:1", "１:1", 1)),
}
_TENANT_POLICY = _object({**_POLICY, "allowedFrom": _mostly(_FROM_PATTERNS, st.just(["a@b"] * 2))})
_TENANTS = _object(
    {
        "provision": _leaf(("OnRequest", "Always"), ("always", "", 1)),
        "namespaceSelector": _SELECTOR,
        "namespaces": _NAMESPACES,
        "exclude": _NAMESPACES,
        "allowedFrom": _FROM_PATTERNS,
        "testRecipients": _FROM_PATTERNS,
        "policy": _mostly(st.none(), _object(_POLICY), 4),
    },
    {"delivery": _leaf(("Credentials", "Relay"), ("relay", "credentials", "", True))},
)

_PROVIDER = _leaf(("Google", "Office365", "Custom"), ("custom", "", "SendGrid", "Yahoo", 1, True, [], "Google\n"))
_COMMON = {"replyTo": _MAILBOX, "suspend": _BOOLEAN, "probe": _PROBE}


def _servers(
    optional: dict[str, st.SearchStrategy[Json]], required: dict[str, st.SearchStrategy[Json]]
) -> st.SearchStrategy[Json]:
    """Specs of a server: of any host, of a provider, and of whatever combination."""
    optional = {key: _mostly(value, st.none(), 9) for key, value in optional.items()}
    custom = {"provider": st.sampled_from(("Custom", None)), "auth": _AUTH, **optional}
    return st.one_of(
        st.fixed_dictionaries({**required, "connection": _CONNECTION_WITH_HOST}, optional=custom),
        st.fixed_dictionaries(
            {**required, "provider": _PROVIDER, "auth": _AUTH}, optional={"connection": _CONNECTION, **optional}
        ),
        _oauth2_server(required),
        st.fixed_dictionaries(
            {**required, "provider": st.just("SendGrid"), "auth": _SENDGRID_AUTH},
            optional={"connection": _CONNECTION, **optional},
        ),
        st.fixed_dictionaries(
            {},
            optional={
                **required,
                "provider": st.sampled_from((*PROVIDERS, None)),
                "connection": _CONNECTION,
                "auth": _AUTH,
                **optional,
            },
        ),
    )


_CLUSTER_OPTIONAL = {**_COMMON, "tenants": _TENANTS, "output": _object(_CLUSTER_OUTPUT_FIELDS)}
_DELIVERY = _mostly(st.sampled_from((None, "Relay")), st.sampled_from(("Credentials", "relay", "", 1)))
_OUTPUT = _object({"secretName": _OBJECT_NAME, "delivery": _DELIVERY, **_CLUSTER_OUTPUT_FIELDS})
_SYSTEM_REF = _object({}, {"name": _OBJECT_NAME})
_INHERITING = st.fixed_dictionaries(
    {},
    optional={
        "mailFrom": _MAILBOX,
        "replyTo": _mostly(_MAILBOX, st.none()),
        "suspend": _BOOLEAN,
        "output": _OUTPUT,
        "useSystemSettings": _leaf((True, None), (False, "true", 1)),
        "systemSettingsRef": _SYSTEM_REF,
        "provider": st.none(),
        "policy": _TENANT_POLICY,
        "connection": _mostly(st.none(), st.just({})),
    },
)
_TENANT_OPTIONAL = {
    **_COMMON,
    "output": _OUTPUT,
    "policy": _mostly(st.none(), _TENANT_POLICY, 3),
    "useSystemSettings": _leaf((False, None), (True, "false", 0)),
    "systemSettingsRef": _mostly(st.none(), _SYSTEM_REF, 5),
}


def _replacing(value: Json) -> Callable[[Json], Json]:
    return lambda _: value


def _on_text(change: Callable[[str], Json]) -> Callable[[Json], Json]:
    return lambda value: change(value) if isinstance(value, str) else value


def _repeat_first(value: Json) -> Json:
    return [*value, value[0]] if isinstance(value, list) and value else [value]


def _add_unknown(value: Json) -> Json:
    return {**value, "unknown": {"deep": [None, 1]}, "pass word\n": None} if isinstance(value, dict) else value


def _spoil_key(value: Json) -> Json:
    return {f"{key}\n": item for key, item in value.items()} if isinstance(value, dict) else value


_REPLACEMENTS: Final[tuple[Json, ...]] = (
    None, True, False, 0, 1, 587.0, 587.5, "587", "", "true", "\n", [], {}, [None], [{}], {"": ""},
)  # fmt: skip
_MUTATIONS: Final[tuple[Callable[[Json], Json], ...]] = (
    *map(_replacing, _REPLACEMENTS),
    _on_text(lambda text: f"{text}\n"),
    _on_text(lambda text: f" {text}"),
    _on_text(lambda text: f"{text}\x00"),
    _on_text(lambda text: text.translate(ARABIC_DIGITS)),
    _on_text(lambda text: text.translate(FULLWIDTH_DIGITS)),
    _on_text(str.swapcase),
    _on_text(lambda text: text * 2),
    _repeat_first,
    _add_unknown,
    _add_unknown,
    _spoil_key,
)


def _paths(value: Json, path: Path = ()) -> list[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in _paths(item, (*path, key)))]


def _changed(value: Json, path: Path, change: Callable[[Json], Json]) -> Json:
    if not path:
        return change(value)
    head, *tail = path
    copy = value.copy()
    copy[head] = _changed(value[head], tuple(tail), change)
    return copy


@st.composite
def _mutated(draw: st.DrawFn, specs: st.SearchStrategy[Json]) -> Json:
    spec = draw(specs)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2)))):
        spec = _changed(spec, draw(st.sampled_from(_paths(spec))), draw(st.sampled_from(_MUTATIONS)))
    return spec


CLUSTER_SPECS: Final = _mutated(_servers(_CLUSTER_OPTIONAL, {"mailFrom": _MAILBOX}))
TENANT_SPECS: Final = _mutated(st.one_of(_INHERITING, _servers(_TENANT_OPTIONAL, {"mailFrom": _MAILBOX})))
_TEST_MODES = st.sampled_from(
    ({}, {"recipient": "a@b"}, {"mode": "Connect"}, {"mode": "Authenticate"}, {"mode": "Send", "recipient": "a@b"})
)
_TEST_OPTIONAL = {
    "mode": _leaf(("Send", None), ("Connect", "Disabled", "send", "", True)),
    "recipient": _ADDRESS,
    "ttlSecondsAfterFinished": _leaf((60, 604800, 3600.0, None), (59, 604801, 60.5, "60", 0, -1, True)),
}
_TESTED = st.one_of(
    st.fixed_dictionaries({"settingsRef": _SYSTEM_REF}),
    st.fixed_dictionaries({"settings": _servers({}, {"mailFrom": _MAILBOX})}),
    st.fixed_dictionaries({}, optional={"settingsRef": _SYSTEM_REF, "settings": _servers({}, {"mailFrom": _MAILBOX})}),
)


def _merged(parts: tuple[Json, ...]) -> Json:
    return {key: value for part in parts for key, value in part.items()}


_TESTS = st.one_of(
    st.tuples(_TESTED, _TEST_MODES).map(_merged),
    st.tuples(_TESTED, st.fixed_dictionaries({}, optional=_TEST_OPTIONAL)).map(_merged),
)
TEST_SPECS: Final = _mutated(_TESTS)
NAMES: Final = st.sampled_from(("default", "default", "backup", "d" * 63, "d" * 64, "default.x"))
