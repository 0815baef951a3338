"""What the service answers, as resources or as errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from searchspaces import Conflict, InvalidState, LeaseLost, NASError, NotFound, ServiceError, SpecError, Violation

Model = TypeVar("Model", bound=BaseModel)
_SPEC_CODES = ("INVALID_SPEC", "INVALID_CONFIG")
_STALE = (409, 412, 428)


def reader(model: type[Model]) -> Callable[[httpx.Response], Model]:
    """Reads a response's body as `model`."""

    def read(response: httpx.Response) -> Model:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise ServiceError(
                f"{response.url} answered no {model.__name__}; is a nas service of this version there?",
                code="UNREADABLE",
                status=response.status_code,
            ) from error

    return read


def nothing(response: httpx.Response) -> None:
    """Reads no body."""


def plain(response: httpx.Response) -> Any:
    """Reads any JSON."""
    try:
        return response.json()
    except ValueError as error:
        raise ServiceError(
            f"{response.url} answered no JSON.", code="UNREADABLE", status=response.status_code
        ) from error


def refusal(response: httpx.Response) -> NASError:
    """The error that a refused request means; `response` is read and its status is 400 or above."""
    problem = _problem(response)
    status, code = response.status_code, str(problem.get("code", f"HTTP_{response.status_code}"))
    detail = str(problem.get("detail") or problem.get("title") or f"{response.url} answered {status}.")
    found = _violations(problem.get("violations"))
    if found and code in _SPEC_CODES:
        return SpecError(found)
    if status == 404:
        return NotFound(detail)
    if code == "INVALID_STATE":
        return InvalidState(detail)
    if code == "LEASE_LOST":
        return LeaseLost(detail)
    if status in _STALE:
        return Conflict(detail)
    if status == 401:
        detail = f"{detail.rstrip('.')}; give the client a token, or set NAS_TOKEN."
    return ServiceError(detail, code=code, status=status, violations=found)


def unreachable(url: str, error: Exception) -> ServiceError:
    """The error for a service that does not answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return ServiceError(
            f"the service at {url} did not answer in time; try again, or look at its log.", code="TIMEOUT"
        )
    return ServiceError(f"no service answers at {url}; start one with `nas up`, or set NAS_URL.")


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        found = json.loads(response.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _violations(items: object) -> Sequence[Violation]:
    if not isinstance(items, list):
        return ()
    return [
        Violation(str(item.get("field", "")), str(item.get("value", "")), str(item.get("allowed", "")))
        for item in items
        if isinstance(item, dict)
    ]
