"""Everything that somebody can do on the pages, done once."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.e2e.site import Reader, Site, reading
from tests.support import Finstage

PATIENCE_MS = 30_000


def _accepts(page: Page, button: str, word: str) -> None:
    """The name is typed, and the button pressed."""
    page.get_by_label(re.compile("^To go on, type")).fill(word)
    page.get_by_role("button", name=button, exact=True).click()


def _again_until(reader: Reader, path: str, text: str) -> None:
    """The page says so, sooner or later."""
    expect_within = reader.page.get_by_text(text, exact=False).first
    for _ in range(100):
        reader.opens(path)
        if expect_within.count():
            return
        reader.page.wait_for_timeout(100)
    raise AssertionError(f"{path} never said {text!r}")


def _logs_in(reader: Reader, site: Site, role: str, path: str = "/") -> None:
    reader.page.goto(site.url + path)
    reader.page.get_by_label("Key").fill(site.keys[role])
    reader.page.get_by_role("button", name="Log in").click()
    reader.sees_it_drawn()


def test_index_steps_are_tried_taken_and_taken_back(browser: Browser, guarded: Site) -> None:
    with reading(browser, guarded.url) as reader:
        page = reader.page
        _logs_in(reader, guarded, "admin", "/indexes")
        step = page.locator("article.card").filter(has_text="Create").first
        name = step.locator("label code").first.inner_text()
        step.get_by_role("checkbox").check()
        page.get_by_role("button", name="Dry run of the ticked steps").click()
        expect(page.get_by_role("heading", name="Dry run: what would be done")).to_be_visible()
        expect(page.locator(".outcome")).to_contain_text(f"CREATE INDEX {name}")
        assert reader.complaints() == []
        _accepts(page, "Apply", "visits")
        expect(page.get_by_role("status")).to_contain_text("The steps are being taken")
        _again_until(reader, "/indexes", "on trial")
        row = page.locator("#changes ~ .scroll tr").filter(has_text=name).first
        row.get_by_text("Undo", exact=True).first.click()
        row.get_by_role("textbox").fill(row.locator("td").first.inner_text())
        row.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("status")).to_contain_text("taken back")
        expect(page.locator("#changes ~ .scroll tr").filter(has_text=name).first).to_contain_text("taken back")
        reader.opens("/activity")
        expect(page.get_by_text("the-admin").first).to_be_visible()


def test_a_cleanup_is_tried_run_and_brought_back(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        reader.opens("/maintenance")
        rule = page.locator("#rules ~ .scroll tr").filter(has_text="signal_outcomes").first
        rule.get_by_role("button", name="Dry run").click()
        expect(page.get_by_role("heading", name=re.compile(r"^Dry run: [1-9][\d,]* rows would go"))).to_be_visible()
        _accepts(page, "Clean now", "signal_outcomes")
        expect(page.get_by_role("status")).to_contain_text("The cleanup has begun")
        _again_until(reader, "/maintenance", "finished")
        page.get_by_role("combobox", name="Rule").select_option("signal_outcomes")
        page.get_by_role("button", name="Look first").click()
        expect(
            page.get_by_role("heading", name=re.compile(r"archived rows of signal_outcomes were found"))
        ).to_be_visible()
        _accepts(page, "Restore", "signal_outcomes")
        expect(page.get_by_role("status")).to_contain_text("Archived rows are live again")
        reader.opens("/activity")
        expect(page.get_by_text(re.compile("restored [1-9][0-9]* rows of signal_outcomes"))).to_be_visible()


def test_the_pool_is_reviewed(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        reader.opens("/pool")
        reader.page.get_by_role("button", name="Review now").click()
        expect(reader.page.get_by_role("status")).to_contain_text("The pool was reviewed")
        expect(reader.page.get_by_text("none yet")).to_have_count(0)


def test_a_run_that_goes_on_is_ended_by_who_may(browser: Browser, guarded: Site) -> None:
    with reading(browser, guarded.url) as reader:
        page = reader.page
        _logs_in(reader, guarded, "operator", "/maintenance")
        page.get_by_role("button", name="Dry run of all rules").click()
        _accepts(page, "Clean now", "all")
        expect(page.get_by_role("heading", name="A cleanup runs")).to_be_visible()
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("status")).to_contain_text("ends after the batch in hand")
        _again_until(reader, "/maintenance", "not finished")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Key")).to_be_visible()


def test_a_wrong_key_opens_nothing_and_a_viewers_only_shows(browser: Browser, guarded: Site) -> None:
    with reading(browser, guarded.url) as reader:
        page = reader.page
        page.goto(f"{guarded.url}/pool")
        page.get_by_label("Key").fill("dbpilot_000000000000_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not configured here")
        assert reader.complaints() == []
        page.get_by_label("Key").fill(guarded.keys["viewer"])
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Pool")
        reader.opens("/maintenance")
        assert page.get_by_role("button", name="Dry run").count() == 0
        expect(page.get_by_text("This needs the role operator.").first).to_be_visible()


def test_language_and_colours_are_chosen_and_stay(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        reader.opens("/")
        before = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        page.get_by_role("link", name="Dark").click()
        page.get_by_role("link", name="한국어").click()
        reader.opens("/pool")
        expect(page.get_by_role("heading", level=1)).to_have_text("커넥션 풀")
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != before


def test_filters_are_in_the_address(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        reader.opens("/queries")
        page.get_by_label("Table").fill("daily_prices")
        page.get_by_label("Sorted by").select_option("calls")
        page.get_by_role("button", name="Filter").click()
        reader.sees_it_drawn()
        assert "table=daily_prices" in page.url
        assert "sort=calls" in page.url
        statements = page.locator("td.sql").all_inner_texts()
        assert statements
        assert all("daily_prices" in text for text in statements)
        page.get_by_role("link", name="24 h").click()
        reader.sees_it_drawn()
        expect(page.get_by_label("Table")).to_have_value("daily_prices")


def test_all_of_it_is_reached_by_keyboard(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        reader.opens("/queries")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.tagName + ' ' + document.activeElement.name"))
        assert {"INPUT q", "SELECT sort", "BUTTON "} <= reached
        page.locator("td.sql a").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Query")


def test_a_page_is_kept_up_to_date_while_it_is_looked_at(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
        page.clock.install()
        reader.opens("/")
        with page.expect_response(lambda answer: "hx-request" in answer.request.headers, timeout=PATIENCE_MS):
            page.clock.fast_forward(10_500)
        page.wait_for_function("() => !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')")
        assert reader.blank_charts() == 0, "what was exchanged is drawn again"
        page.evaluate("() => Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
        seen = len(asked)
        page.clock.fast_forward(60_000)
        page.evaluate("() => Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
        page.get_by_role("button", name="Pause").click()
        page.clock.fast_forward(60_000)
        assert len(asked) == seen, "a hidden or paused page asks nothing"
        with page.expect_response(lambda answer: "hx-request" in answer.request.headers, timeout=PATIENCE_MS):
            page.get_by_role("button", name="Go on").click()


def test_nobody_is_interrupted_while_they_choose(browser: Browser, guarded: Site) -> None:
    with reading(browser, guarded.url) as reader:
        page = reader.page
        page.clock.install()
        _logs_in(reader, guarded, "viewer", "/queries")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("Text or id").fill("visits")
        page.locator("h1").click()
        page.clock.fast_forward(30_000)
        assert asked == []
        expect(page.get_by_label("Text or id")).to_have_value("visits")


def test_a_server_that_is_gone_is_said_to_be(browser: Browser, finstage: Finstage) -> None:
    with reading(browser, f"{finstage.url}/dashboard") as reader:
        page = reader.page
        page.clock.install()
        reader.opens("/")
        page.route("**/*", lambda route: route.abort())
        page.clock.fast_forward(10_500)
        expect(page.get_by_text("Not updated: the server does not answer.")).to_be_visible(timeout=PATIENCE_MS)
        assert all("ERR_FAILED" in said or "htmx" in said for said in reader.wrong)
        reader.wrong.clear()
