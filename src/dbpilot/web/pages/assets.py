"""What pages load beside themselves: read once, served with an address that changes with the content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

KINDS: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served; licences and the like stay where they are."""
A_YEAR_S: Final = 31_536_000


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    kind: str
    version: str


def read_assets() -> dict[str, Asset]:
    """Every file, by its path below ``static``."""
    return dict(_below(files("dbpilot.web") / "static", PurePosixPath()))


def make_assets(assets: Mapping[str, Asset]) -> APIRouter:
    """A router that serves the files; open to everybody, for nothing in them tells of the database."""
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{path:path}")
    def asset(path: str, request: Request) -> Response:
        found = assets.get(path)
        if found is None:
            raise HTTPException(404, "there is no such file")
        tag = f'"{found.version}"'
        kept = (
            f"public, max-age={A_YEAR_S}, immutable" if request.query_params.get("v") == found.version else "no-cache"
        )
        headers = {"ETag": tag, "Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.kind, headers=headers)

    return router


def _below(folder: Traversable, at: PurePosixPath) -> list[tuple[str, Asset]]:
    found = []
    for entry in folder.iterdir():
        path = at / entry.name
        if entry.is_dir():
            found += _below(entry, path)
        elif path.suffix in KINDS:
            content = entry.read_bytes()
            found.append((str(path), Asset(content, KINDS[path.suffix], hashlib.sha256(content).hexdigest()[:12])))
    return found
