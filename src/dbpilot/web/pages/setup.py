"""What is off on this database, and how the pilot is set up."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, SecretStr

from dbpilot.web.pages.site import Site, shown, view_of


def add_setup(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with what is to be put right, and with every setting."""

    @router.get("/setup")
    def setup(request: Request) -> HTMLResponse:
        view = view_of(site, request, clock())
        pilot = site.pilot
        return shown(
            view,
            "setup",
            page="setup",
            checkup=pilot.doctor(),
            watching=pilot.watching(),
            running=pilot.is_running,
            notes=pilot.indexing.latest().notes,
            settings=list(settings_of(pilot.config)),
            delivery=pilot.alerts(1, 1).delivery,
        )


def settings_of(config: BaseModel) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    """Every setting by section: its variable, its value without secrets, and whether somebody set it."""
    for section in type(config).model_fields:
        values: BaseModel = getattr(config, section)
        chosen = values.model_fields_set if section in config.model_fields_set else set()
        yield (
            section,
            [
                (f"DBPILOT_{section.upper()}__{name.upper()}", _said(getattr(values, name)), name in chosen)
                for name in type(values).model_fields
            ],
        )


def _said(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "…" if value.get_secret_value() else ""
    if isinstance(value, tuple | list):
        return ", ".join(_said(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_said(one)}" for name, one in value.items())
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()
