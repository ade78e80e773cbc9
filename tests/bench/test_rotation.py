"""How the rotation of tokens is judged."""

from bench.result import FORBIDDEN
from bench.rotation import Credential, share_of, writes_of
from dev.audit import Write

A, B = (Credential(f"rotating-{name}", f"token-{name}", 0.0, 600.0) for name in "ab")


def write(namespace: str, name: str, resource: str = "secrets", code: int = 200) -> Write:
    return Write("patch", resource, namespace, name, code)


def test_writes_are_counted_where_the_settings_are_and_on_the_operators_token_secret() -> None:
    claim = write("mailsettings-system", "token-a")
    mine = [claim, claim, write(A.namespace, "mail-smtp"), write(A.namespace, "mail", "mailserversettings/status")]
    others = [
        write("mailsettings-system", "token-c"),
        write("mailsettings-system", "mailsettings-operator", "leases"),
        write("rotating-c", "mail-smtp"),
        write(A.namespace, "mail-smtp", code=409),
    ]
    assert writes_of([A, B], [*mine, *others, write(B.namespace, "mail-smtp")]) == {A.namespace: 4, B.namespace: 1}


def test_what_must_not_be_is_missed_by_far() -> None:
    assert share_of(4, 8, 0.5) == 0.5
    assert share_of(4, 8, 1.5) == 1.5
    assert share_of(5, 8, 0.5) == FORBIDDEN
    assert share_of(4, 9, 0.5) == FORBIDDEN
