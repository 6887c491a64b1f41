"""The site in a real browser: no page sticks out of a phone or a laptop."""

import html
import json
import re
from pathlib import Path

import pytest
from browser import browse, needs_browser

pytestmark = [pytest.mark.slow, needs_browser]

# Wide tables and code scroll in boxes of their own; what a reader opens (menus) is not shown yet.
MEASURE = """
const outside = (page) => [...page.querySelectorAll("article *, header *")].filter((e) =>
  e.getClientRects().length > 0 && !e.closest(".md-typeset__scrollwrap, pre, .md-search, .md-icon")
  && getComputedStyle(e).visibility === "visible"
  && e.getBoundingClientRect().right > page.documentElement.clientWidth + 1);
onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    found[frame.title] = {
      width: page.documentElement.scrollWidth, words: page.body.textContent.length,
      outside: outside(page).map((e) => e.tagName + ": " + e.textContent.slice(0, 40)),
    };
  }
  document.body.dataset.answer = JSON.stringify(found);
};
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_sticks_out(site: Path, width: int) -> None:
    pages = [page.relative_to(site).as_posix() for page in sorted(site.rglob("*.html"))]
    frames = [
        f'<iframe title="{page}" src="{page}" width="{width}" height="900"></iframe>'
        for page in pages
        if page != "404.html" and not page.startswith("outer")
    ]
    outer = site / f"outer-{width}.html"
    outer.write_text(f"<body>{''.join(frames)}<script>{MEASURE}</script></body>", "utf-8")
    # A frame's page is looked into, which for files has to be allowed.
    dom = browse(
        outer.as_uri(), site / "profile", "--allow-file-access-from-files", "--dump-dom",
        width=width + 100,
    )  # fmt: skip
    answer = re.search(r'data-answer="([^"]*)"', dom)
    assert answer is not None
    found = json.loads(html.unescape(answer[1]))
    assert len(found) == len(frames) > 20
    for page, measured in found.items():
        assert measured["words"] > 500, page
        assert (page, measured["width"], measured["outside"]) == (page, width, [])
