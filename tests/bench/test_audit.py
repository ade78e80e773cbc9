"""What the benchmarks take for a write of the operator."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.audit import AGENT, Audit, objects_of, to
from bench.errors import BenchError
from dev.audit import AuditLog, Write, write_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = AT - timedelta(seconds=1)


def event(namespace: str = "tenant-1", *, code: int = 200, agent: str = "Python/3 aiohttp/3", **target: str) -> str:
    found: dict[str, Any] = {
        "verb": "patch",
        "userAgent": agent,
        "objectRef": {"resource": "secrets", "namespace": namespace, "name": "mail-smtp", **target},
        "user": {"extra": {"authentication.kubernetes.io/credential-id": ["JTI=token-1"]}},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": BEFORE.isoformat().replace("+00:00", "Z"),
        "stageTimestamp": AT.isoformat().replace("+00:00", "Z"),
    }
    return json.dumps(found)


def write(name: str = "mail-smtp", *, resource: str = "secrets", code: int = 200) -> Write:
    return Write("patch", resource, "tenant-1", name, code)


def test_a_line_of_the_log_is_a_write() -> None:
    found = write_of(event())
    assert found == Write("patch", "secrets", "tenant-1", "mail-smtp", 200, BEFORE, AT, "Python/3 aiohttp/3", "token-1")
    assert found.at == AT.timestamp()
    assert write_of(event(resource="mailserversettings", subresource="status")).resource == "mailserversettings/status"


def audit(folder: Path) -> Audit:
    log = AuditLog(folder)
    log.options()
    return Audit(log)


def test_a_benchmarks_own_request_is_none_of_the_operators(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text(f"{event('a')}\n{event('b', agent=AGENT)}\n")
    assert [each.namespace for each in audit(tmp_path).writes] == ["a"]


def test_what_was_refused_changed_nothing() -> None:
    writes = [write(), write(), write("other"), write("refused", code=409), write(resource="events")]
    assert len(to(writes, "secrets")) == 3
    assert objects_of(writes, "secrets") == 2


def test_the_log_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    log = audit(tmp_path)
    assert log.writes == []
    file = tmp_path / "audit.log"
    first, second = event("a") + "\n", event("b") + "\n"
    file.write_text(first + second[:20])
    assert [each.namespace for each in log.writes] == ["a"]
    with file.open("a") as end:
        end.write(second[20:])
    assert [each.namespace for each in log.writes] == ["a", "b"]
    log.forget()
    assert log.writes == []


async def test_it_is_waited_for_until_all_is_written_and_nothing_follows(tmp_path: Path) -> None:
    log = audit(tmp_path)
    (tmp_path / "audit.log").write_text(event("a") + "\n")
    assert len(await log.settled(lambda writes: len(writes) == 1, timeout_s=5)) == 1
    with pytest.raises(BenchError, match="1 writes"):
        await log.settled(lambda writes: len(writes) == 2, timeout_s=0.1)


def test_moments_are_those_of_this_machines_clock() -> None:
    found = write_of(event().replace(AT.isoformat().replace("+00:00", "Z"), datetime.now(UTC).isoformat()))
    assert abs(found.at - time.time()) < 60
