"""The web page: its files, and the plotly.js that the plotly package ships."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "dashboard"
_REVALIDATE = "no-cache"  # asked again each time, answered 304: after an upgrade nobody runs half of an old page
_A_WEEK = "public, max-age=604800"


class _PageFiles(StaticFiles):
    """Files that a browser keeps, but asks about."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = _REVALIDATE
        return response


def install(app: FastAPI) -> None:
    """Serve the page at /, its files under /static, and plotly.js among them."""
    app.add_api_route("/", _index, include_in_schema=False)
    app.add_api_route("/static/plotly.min.js", _plotly, include_in_schema=False)
    app.mount("/static", _PageFiles(directory=FOLDER, check_dir=False), name="static")


def _index() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers={"Cache-Control": _REVALIDATE})


def _plotly(request: Request) -> Response:
    headers = {"ETag": f'"plotly-{version("plotly")}"', "Cache-Control": _A_WEEK, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(_plotly_gzipped(), media_type="text/javascript", headers=headers)
    return Response(_plotly_script(), media_type="text/javascript", headers=headers)


def _plotly_script() -> bytes:
    return files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()


@cache
def _plotly_gzipped() -> bytes:
    return gzip.compress(_plotly_script(), compresslevel=6)
