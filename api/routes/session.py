"""Sessions of the page: EventSource cannot send headers, so its token comes in a cookie that no script can read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import ServiceDep
from api.errors import Refusal
from api.openapi import problems
from api.security import COOKIE, authenticated
from nas.reports import Resource

router = APIRouter(prefix="/v1/session", tags=["session"])


class Login(BaseModel):
    """A token, to be kept as a cookie."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: str = Field(min_length=1, max_length=512, repr=False, description="A token of NAS_TOKENS.")


class Session(Resource):
    """What the caller may do."""

    scopes: tuple[str, ...] = Field(description="read, submit, worker, admin.")
    open: bool = Field(description="Whether this service needs no token.")


@router.post("", operation_id="open_session", responses=problems(401, 422))
def log_in(login: Login, service: ServiceDep, request: Request, response: Response) -> Session:
    """Keep a token as a cookie that only this host gets back and no script can read."""
    scopes = service.tokens.scopes(login.token)
    if scopes is None:
        raise Refusal(401, "UNAUTHENTICATED", "no token is known by that text.")
    if not service.tokens.is_open:
        is_secure = request.url.scheme == "https" or (service.settings.public_url or "").startswith("https:")
        response.set_cookie(COOKIE, login.token, httponly=True, samesite="strict", secure=is_secure)
    return Session(scopes=tuple(sorted(scopes)), open=service.tokens.is_open)


@router.get("", operation_id="get_session", responses=problems(401))
def session(service: ServiceDep, request: Request) -> Session:
    """What the caller may do."""
    return Session(scopes=tuple(sorted(authenticated(request))), open=service.tokens.is_open)


@router.delete("", status_code=204, operation_id="close_session")
def log_out(response: Response) -> None:
    """Forget the cookie."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
