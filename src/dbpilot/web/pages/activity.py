"""Everything the pilot did or refused: who, what, why, and how to undo it."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from dbpilot.web.pages import attention
from dbpilot.web.pages.overview import SHOWN_ALERTS
from dbpilot.web.pages.site import Hours, Site, shown, view_of

SHOWN: Final = 200
A_WEEK_H: Final = 168.0


def add_activity(router: APIRouter, site: Site, clock: Callable[[], datetime]) -> None:
    """The router answers with what was done, and which alerts there were."""

    @router.get("/activity")
    def activity(
        request: Request, hours: Hours = A_WEEK_H, about: Annotated[str, Query(max_length=64)] = ""
    ) -> HTMLResponse:
        view = view_of(site, request, clock())
        known = site.pilot.activity(hours, SHOWN)
        alerts = site.pilot.alerts(hours, SHOWN_ALERTS)
        named = site.pilot.named({alert.pattern_id for alert in alerts.alerts if alert.pattern_id})
        subjects = sorted({one.subject for one in known.activities})
        return shown(
            view,
            "activity",
            page="activity",
            done=[one for one in known.activities if not about or one.subject == about],
            subjects=subjects,
            about=about,
            hours=hours,
            alerts=[(alert, attention.of_alert(view.t, alert, named)) for alert in alerts.alerts],
            delivery=alerts.delivery,
            history_error=known.history_error,
        )
