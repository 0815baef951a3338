"""The OpenAPI document: what FastAPI derives from the routes, with our errors and our security in it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import PROBLEM_TYPE, Problem
from api.settings import Settings

Responses = dict[int | str, dict[str, Any]]

_EVERYWHERE = (421, 500, 503)
_WITH_TOKEN = (401, 403)
_UNSAFE = (403, 413, 415)

FIGURE_RESPONSE: dict[str, Any] = {
    "description": "A plotly figure.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["data", "layout"],
                "properties": {
                    "data": {"type": "array", "items": {"type": "object"}},
                    "layout": {"type": "object"},
                },
            }
        }
    },
}


def problems(*statuses: int) -> Responses:
    """The errors of one route, beside those that every route may answer with."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the document at /openapi.json."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            app.openapi_schema = _with_problems(made, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _with_problems(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["PluginRef"] = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 200}, schemas["PluginRef"]]}
    for path in document["paths"].values():
        for method, operation in path.items():
            _complete(operation, is_unsafe=method != "get", is_open=settings.is_open)
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "page_size":
                    parameter["schema"] = {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": settings.page_size_max,
                        "default": settings.page_size,
                    }
    return document


def _complete(operation: dict[str, Any], *, is_unsafe: bool, is_open: bool) -> None:
    responses = operation["responses"]
    needs_token = "security" in operation
    if needs_token and is_open:
        operation["security"].append({})
    takes_input = bool(operation.get("parameters")) or "requestBody" in operation
    if not takes_input or "HTTPValidationError" in str(responses.get("422", {})):
        responses.pop("422", None)
    added = {*_EVERYWHERE, *(_WITH_TOKEN if needs_token else ()), *(_UNSAFE if is_unsafe else ())}
    if takes_input:
        added.add(422)
    for status in added:
        responses.setdefault(str(status), {"description": HTTPStatus(status).phrase})
    for status, response in responses.items():
        if int(status) >= 400:
            response["content"] = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation["responses"] = dict(sorted(responses.items()))
