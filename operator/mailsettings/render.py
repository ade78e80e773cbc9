"""Writes the files of the repository that are made from the code, so that they cannot drift from it."""

from pathlib import Path
from typing import Final

from mailsettings.api import admission, crd, reference
from mailsettings.core.causes import document

_YAML_NOTE: Final = "# Made from operator/mailsettings/api by: make crds\n"


def files() -> dict[Path, str]:
    """Every rendered file, by its path in the repository."""
    return {
        **{Path("crds", crd.file_name(kind)): _YAML_NOTE + crd.render(kind) for kind in crd.KINDS},
        Path("manifests/admission/basic-auth-warning.yaml"): _YAML_NOTE
        + crd.to_yaml(*admission.basic_warning_documents()),
        Path("docs/reference.md"): reference.render(),
        Path("docs/troubleshooting.md"): document.render(),
    }


def render(root: Path, *, check: bool) -> list[Path]:
    """Writes the rendered files that are missing or differ.

    Args:
        root: The repository.
        check: Write nothing.

    Returns:
        The files that were written, or with `check` those that would be.
    """
    stale = {root / path: text for path, text in files().items() if _text(root / path) != text}
    if not check:
        for path, text in stale.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return list(stale)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
