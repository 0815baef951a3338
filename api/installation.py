"""Are the five packages ours? Their names are plain, and another package or folder can stand before them."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from searchspaces import ServiceError

DISTRIBUTION = "nas-service"
PACKAGES = ("searchspaces", "predictors", "nas", "db", "api")


def version() -> str:
    """Version of the installed distribution; `unknown` in a checkout that is not installed."""
    try:
        return distribution(DISTRIBUTION).version
    except PackageNotFoundError:
        return "unknown"


def check_installation() -> None:
    """Make sure that the five packages come from one distribution. Imports none of them.

    Raises:
        ServiceError: one is missing, lies elsewhere, or was overwritten by another distribution.
    """
    home = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None:
            message = f"the package {name!r} is missing in {home}; install {DISTRIBUTION} anew."
            raise ServiceError(message, code="BROKEN_INSTALLATION")
        if origin.parent.parent != home:
            raise ServiceError(
                f"the package {name!r} is {origin}, but {DISTRIBUTION} lies in {home}; something else of that name "
                f"stands before it (a folder {name}/ where this was started, or another distribution).",
                code="BROKEN_INSTALLATION",
            )
    _check_content(home)


def _check_content(home: Path) -> None:
    """Files of one folder may still be of two distributions: the one installed last has overwritten the other's."""
    try:
        installed: Distribution = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return
    doors = {f"{name}/__init__.py" for name in PACKAGES}
    for file in installed.files or ():
        path = Path(str(installed.locate_file(file))).resolve()
        if str(file) in doors and file.hash and path.parent.parent == home and file.hash.value != _hash(path):
            raise ServiceError(
                f"{path} is not the file that {DISTRIBUTION} installed; another distribution overwrote it. Install "
                f"{DISTRIBUTION} into an environment of its own.",
                code="BROKEN_INSTALLATION",
            )


def _hash(path: Path) -> str:
    """As a wheel's RECORD writes it (PEP 376)."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
