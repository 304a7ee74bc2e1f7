"""Each page, in both languages and schemes, at a desk and on a phone."""

import os
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.site import DESKTOP, PHONE, Scheme, reading
from tests.support import REPOSITORY, Finstage

PAGES = ("/", "/queries", "/indexes", "/pool", "/maintenance", "/activity", "/setup")
PICTURES = os.environ.get("DASHBOARD_PICTURES")
"""Where screenshots go, below the repository; such as docs/images."""
NAMES = {
    "en": ("Overview", "Queries", "Indexes", "Pool", "Maintenance", "Activity", "Setup"),
    "ko": ("개요", "쿼리", "인덱스", "커넥션 풀", "유지보수", "활동 기록", "설정"),
}


@pytest.fixture(scope="module")
def addresses(finstage: Finstage) -> list[str]:
    """Every page, with that of a slow query."""
    slow = finstage.get("/api/database/slow-queries/patterns").json()["patterns"]
    slowest = next(one for one in slow if one["plan"])
    return [*PAGES, f"/queries/{slowest['pattern_id']}"]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_page_is_whole(
    browser: Browser,
    finstage: Finstage,
    addresses: list[str],
    language: str,
    scheme: Scheme,
    size: tuple[int, int],
) -> None:
    # axe takes as long as all else together: each language, each scheme and each size is looked at once or twice.
    is_looked_over = (language == "en") == ((scheme == "light") == (size == DESKTOP))
    with reading(browser, f"{finstage.url}/dashboard", language, scheme, size) as reader:
        for address, name in zip(addresses, (*NAMES[language], ""), strict=True):
            reader.opens(address)
            if name:
                expect(reader.page.get_by_role("heading", level=1)).to_have_text(name)
            assert reader.page.locator("html").get_attribute("lang") == language
            assert reader.blank_charts() == 0, address
            assert not reader.is_too_wide(), address
            if is_looked_over:
                assert reader.complaints() == [], address
            if PICTURES and _is_pictured(address, language, scheme, size):
                _picture(reader.page, address, language, scheme, size)


def _is_pictured(address: str, language: str, scheme: str, size: tuple[int, int]) -> bool:
    """The documentation shows every page once, and the first one in its other shapes."""
    usual = [language == "en", scheme == "light", size == DESKTOP]
    return all(usual) or (address == "/" and sum(usual) == len(usual) - 1)


def _picture(page: Page, address: str, language: str, scheme: str, size: tuple[int, int]) -> None:
    name = "query" if re.match("/queries/.", address) else address.strip("/") or "overview"
    parts = [name, *([language] if language != "en" else []), *(["dark"] if scheme == "dark" else [])]
    file = "-".join([*parts, *(["phone"] if size == PHONE else [])])
    page.screenshot(path=REPOSITORY / str(PICTURES) / f"dashboard-{file}.png", full_page=True)


@pytest.mark.parametrize("address", ["/", "/pool"])
def test_charts_are_drawn(browser: Browser, finstage: Finstage, address: str) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        reader.opens(address)
        assert reader.page.locator("canvas").count() == {"/": 4, "/pool": 3}[address]
        for plot in reader.page.locator(".plot[data-chart]").all():
            assert re.search(r"\d", plot.get_attribute("aria-label") or ""), "what is drawn is said as well"


def test_the_landing_page_leads_to_the_dashboard_and_that_to_every_page(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, finstage.url) as reader:
        reader.page.goto(f"{finstage.url}/")
        reader.page.get_by_role("link", name="How the database is doing").click()
        for name in NAMES["en"]:
            reader.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
            expect(reader.page.get_by_role("heading", level=1)).to_have_text(name)
            current = reader.page.locator("nav [aria-current=page]")
            expect(current).to_have_text(name)


def test_a_query_shows_its_plan_and_its_line(browser: Browser, finstage: Finstage, addresses: list[str]) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        reader.opens(addresses[-1])
        expect(reader.page.locator(".plan code").first).to_be_visible()
        expect(reader.page.get_by_text(re.compile(r"app/market/\w+\.py:\d+")).first).to_be_visible()
        expect(reader.page.get_by_text("Where the time went")).to_be_visible()
