"""The OpenAPI document is the contract: whatever it allows is answered as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)

from api.routes import ROUTERS
from tests.api.conftest import Running, service_with

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    use_after_free,
]


OPERATIONS = sorted(
    route.operation_id
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.operation_id
)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The schema of a running service that holds a finished job."""
    folder: Path = tmp_path_factory.mktemp("contract")
    with service_with(folder) as running:
        running.searched(num_candidates=2)
        yield schemathesis.openapi.from_url(f"{running.url}/openapi.json")


@pytest.mark.parametrize("operation_id", OPERATIONS)
@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, pytest.param(GenerationMode.NEGATIVE, marks=pytest.mark.slow)]
)
def test_every_answer_is_one_that_the_contract_names(
    contract: BaseSchema, operation_id: str, mode: GenerationMode
) -> None:
    operations = (found.ok() for found in contract.get_all_operations())
    operation = next(found for found in operations if found.definition.raw["operationId"] == operation_id)

    @settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    try:
        conforms()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation without input cannot be given a wrong one


def test_every_operation_has_a_name_a_tag_and_a_description(service: Running) -> None:
    names = []
    for path, operations in service.http.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            assert operation["tags"], f"{method} {path}"
            assert operation["description"], f"{method} {path}"
            names.append(operation["operationId"])
            for parameter in operation.get("parameters", ()):
                described = parameter.get("description") or parameter["schema"].get("description")
                assert described, f"{method} {path}: {parameter['name']}"
    assert len(names) == len(set(names))


def test_every_error_is_documented_as_a_problem(service: Running) -> None:
    document = service.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert {"421", "500", "503"} <= set(errors), f"{method} {path}"
            assert all(list(answer["content"]) == ["application/problem+json"] for answer in errors.values())
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_post_but_the_session_takes_an_idempotency_key(service: Running) -> None:
    for path, operations in service.http.get("/openapi.json").json()["paths"].items():
        if "post" in operations and path != "/v1/session":
            assert "Idempotency-Key" in {parameter["name"] for parameter in operations["post"]["parameters"]}, path


def test_the_document_names_the_page_sizes_of_the_settings(start: Callable[..., Running]) -> None:
    document = start(page_size=7, page_size_max=30).http.get("/openapi.json").json()
    (size,) = [p for p in document["paths"]["/v1/jobs"]["get"]["parameters"] if p["name"] == "page_size"]
    assert (size["schema"]["default"], size["schema"]["maximum"]) == (7, 30)
