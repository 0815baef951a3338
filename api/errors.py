"""Errors become RFC 9457 problems, in one table."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nas.reports import Resource
from nas.resources import ProblemViolation
from searchspaces import (
    BrokenPlugin,
    Cancelled,
    CheckpointError,
    ConfigError,
    Conflict,
    DataError,
    ExportError,
    InfeasibleSpace,
    InvalidArchitecture,
    InvalidState,
    LeaseLost,
    MeasurementError,
    NASError,
    NotFound,
    OutOfMemory,
    SpecError,
    StorageFull,
    StoreError,
    TrainingDiverged,
    UnknownPlugin,
    UnwritableValue,
    Violation,
    told,
)

PROBLEM_TYPE = "application/problem+json"

_LOG = logging.getLogger("nas.api")

# Looked up along the class's bases, nearest first: a new error class answers as its parent does.
STATUS_AND_CODE: Mapping[type[Exception], tuple[int, str]] = {
    SpecError: (422, "INVALID_SPEC"),
    ConfigError: (422, "INVALID_CONFIG"),
    BrokenPlugin: (422, "BROKEN_PLUGIN"),
    InvalidArchitecture: (422, "INVALID_ARCHITECTURE"),
    InfeasibleSpace: (422, "INFEASIBLE_SPACE"),
    DataError: (422, "INVALID_DATA"),
    MeasurementError: (422, "MEASUREMENT_FAILED"),
    TrainingDiverged: (422, "TRAINING_DIVERGED"),
    OutOfMemory: (422, "OUT_OF_MEMORY"),
    ExportError: (422, "EXPORT_FAILED"),
    UnwritableValue: (422, "UNWRITABLE_VALUE"),
    CheckpointError: (409, "INVALID_CHECKPOINT"),
    UnknownPlugin: (404, "UNKNOWN_PLUGIN"),
    NotFound: (404, "NOT_FOUND"),
    InvalidState: (409, "INVALID_STATE"),
    Conflict: (409, "CONFLICT"),
    LeaseLost: (409, "LEASE_LOST"),
    Cancelled: (409, "CANCELLED"),
    StorageFull: (507, "STORAGE_FULL"),
    StoreError: (503, "STORE_UNAVAILABLE"),
    NASError: (500, "INTERNAL"),
}

_OF_PATHS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)

_CODE_OF_STATUS = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    416: "RANGE_NOT_SATISFIABLE",
    500: "INTERNAL",
}


class Problem(Resource):
    """An error (RFC 9457). `code` is stable; `detail` is for people."""

    type: str = Field("about:blank", description="Always about:blank: `code` tells errors apart.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable upper-case name of the error.")
    request_id: str = Field(description="What the server's log calls this request.")
    violations: tuple[ProblemViolation, ...] = ()


class Refusal(HTTPException):
    """A request that is refused before anything is asked of the service."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        violations: Sequence[Violation] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code, self.violations = code, tuple(violations)


def problem_response(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    *,
    violations: Sequence[Violation] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer that says what went wrong."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "violations": [{"field": v.field, "value": v.value, "allowed": v.allowed} for v in violations],
    }
    return Response(json.dumps(content), status, dict(headers or {}), media_type=PROBLEM_TYPE)


def status_and_code(error: Exception) -> tuple[int, str]:
    """How an error of ours answers."""
    for ancestor in type(error).__mro__:
        if ancestor in STATUS_AND_CODE:
            return STATUS_AND_CODE[ancestor]
    return 500, "INTERNAL"


def install(app: FastAPI) -> None:
    """Turn every error that a handler raises into a problem."""
    app.add_exception_handler(NASError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(OSError, _unreachable)


def request_id_of(request: Request) -> str:
    """The name of this request in log and answers."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def unhandled(request_id: str, error: Exception) -> Response:
    """The answer to an error that nobody expected: logged whole, told in one sentence."""
    _LOG.error("request %s failed", request_id, exc_info=error)
    detail = f"the service failed; its log tells why under request {request_id}."
    return problem_response(request_id, 500, "INTERNAL", detail)


def _known(request: Request, error: Exception) -> Response:
    status, code = status_and_code(error)
    request_id = request_id_of(request)
    if isinstance(error, SpecError) and request.method == "GET":
        code = "INVALID_REQUEST"  # a page token or an order: no spec is in sight
    if status == 500:
        return unhandled(request_id, error)
    if status > 500:
        _LOG.error("request %s failed: %s", request_id, error)
    found: Sequence[Violation] = getattr(error, "violations", ())
    detail = f"{len(found)} violation{'s' if len(found) > 1 else ''}:\n{error}" if found else str(error)
    headers = {"Retry-After": "5"} if status == 503 else None
    return problem_response(request_id, status, code, detail, violations=found, headers=headers)


def _unreachable(request: Request, error: Exception) -> Response:
    """A path of the user's that nobody can look at, wherever it was met; other errors of files are our own."""
    if not isinstance(error, OSError) or error.errno not in _OF_PATHS or not error.filename:
        raise error
    wrong = Violation("path", repr(str(error.filename)), f"a path that can be reached ({error.strerror})")
    return problem_response(request_id_of(request), 422, "INVALID_DATA", str(wrong), violations=[wrong])


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = getattr(error, "code", _CODE_OF_STATUS.get(error.status_code, "REFUSED"))
    detail = str(error.detail)
    if error.status_code == 400 and not isinstance(error, Refusal):  # how FastAPI tells of a body that is no text
        unreadable = Violation("(body)", "unreadable bytes", "a JSON document in UTF-8")
        return problem_response(
            request_id_of(request), 422, "INVALID_REQUEST", str(unreadable), violations=[unreadable]
        )
    if error.status_code in (404, 405) and not isinstance(error, Refusal):
        detail = f"{request.method} {request.url.path} is no route of this service; /openapi.json lists them."
    return problem_response(
        request_id_of(request),
        error.status_code,
        code,
        detail,
        violations=getattr(error, "violations", ()),
        headers=error.headers,
    )


def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    model = _body_model(request)
    found = [found for item in error.errors() for found in _violations(item, model)]
    detail = "\n".join(str(violation) for violation in found)
    return problem_response(request_id_of(request), 422, "INVALID_REQUEST", detail, violations=found)


def _body_model(request: Request) -> type[BaseModel] | None:
    """What the body of a request is checked against, where that is a model: it knows the names near a wrong one."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(body, "field_info", None), "annotation", None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _violations(item: Mapping[str, Any], model: type[BaseModel] | None) -> list[Violation]:
    """One thing that FastAPI found: in the body, or in a parameter, a header or the path."""
    where, *location = item.get("loc", ()) or ("body",)
    if item.get("type") == "json_invalid":
        return [Violation("(body)", "malformed JSON", f"a JSON document ({item.get('ctx', {'error': ''})['error']})")]
    found = told([{**item, "loc": tuple(location)}], model=model if where == "body" else None)
    return [Violation("(body)", v.value, v.allowed) if v.field == "(whole)" else v for v in found]
