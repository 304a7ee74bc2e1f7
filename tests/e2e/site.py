"""Pages as somebody at a browser meets them, and what must be true of every one."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
DESKTOP, PHONE = (1280, 900), (390, 844)
Scheme = Literal["light", "dark"]
PAINTED = """() => [...document.querySelectorAll("canvas")].filter((canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
  return seen.size < 3;
}).length"""
"""How many charts are blank: a painted one has its grid, its words and at least one course."""
COMPLAINTS = """async () => (await axe.run(document)).violations.map(
  (one) => `${one.id}: ${one.help} (${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join("; ")})`)"""
DRAWN = "html[data-ready]"


@dataclass(frozen=True)
class Site:
    """A dashboard, and the keys that open it."""

    url: str
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reader:
    """Somebody at a browser."""

    page: Page
    url: str
    wrong: list[str]
    """What the browser complained of, and requests that went elsewhere."""

    def opens(self, path: str) -> None:
        """The page is there, and all of its charts are drawn."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        self.sees_it_drawn()

    def sees_it_drawn(self) -> None:
        """The script has done its work."""
        self.page.wait_for_selector(DRAWN, state="attached")
        self.page.wait_for_function("() => document.fonts.status === 'loaded'")

    def blank_charts(self) -> int:
        """Charts that were begun and show nothing."""
        return int(self.page.evaluate(PAINTED))

    def complaints(self) -> list[str]:
        """What axe-core finds that people with a screen reader, a keyboard or weak eyes would stumble over.

        The content security policy keeps the page from loading a script of somebody else's; the debugger may.
        """
        self.page.evaluate(AXE)
        found: list[str] = self.page.evaluate(COMPLAINTS)
        return found

    def is_too_wide(self) -> bool:
        """Whether the whole page has to be moved sideways to be read."""
        return bool(self.page.evaluate("() => document.documentElement.scrollWidth > innerWidth"))


@contextmanager
def reading(
    browser: Browser, url: str, language: str = "en", scheme: Scheme = "light", size: tuple[int, int] = DESKTOP
) -> Iterator[Reader]:
    """Somebody with this language, colours and window, whom nothing went wrong for until the end of the block."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale=language, timezone_id="Asia/Seoul"
    )
    page = context.new_page()
    reader = Reader(page, url, [])
    host = url.split("/")[2]
    page.on("console", lambda message: reader.wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: reader.wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.split("/")[2] == host else reader.wrong.append(asked.url))
    yield reader
    assert reader.wrong == [], json.dumps(reader.wrong, indent=1)
    context.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
