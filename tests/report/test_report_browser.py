"""The report in a real browser: nothing runs, nothing sticks out, nothing is cut."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browse, needs_browser
from made_run import SAMPLES, SYSTEMS, make_run

from dlm.report.page import report_page
from dlm.report.run import read_runs

pytestmark = [pytest.mark.slow, needs_browser]
HOSTILE = (
    "</dd></pre><script>document.title='taken'</script><img src=x onerror=\"document.title=1\">"
)
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs with long names, texts that want to run, and one that cannot be broken."""
    folder = tmp_path_factory.mktemp("report")
    words = {"source": HOSTILE, "reference": LONG, "hypothesis": f"{LONG[:-9]} {HOSTILE}"}
    systems = {**SYSTEMS, "a system with quite a long name, as they happen to be": {
        "num_iterations": 20, "length": "predicted", "length_beam": 3}}  # fmt: skip
    runs = [
        make_run(folder / name, shift=shift, samples=[*SAMPLES, words], systems=systems)
        for name, shift in (("a-run-with-a-long-name-and-no-spaces-in-it", 0.0), ("short", 0.5))
    ]
    config = runs[0] / "03_adapt" / "config.yaml"
    config.write_text(config.read_text() + f"# {HOSTILE} {LONG}\n")
    place = folder / "report.html"
    place.write_text(report_page(read_runs(runs), f"made {HOSTILE}", [LONG], place), "utf-8")
    yield place


def framed(page: Path, width: int, script: str, *, open_all: bool = True) -> dict[str, Any]:
    """What a script says of the page in a frame: no window of Chromium is below 500 pixels."""
    text = page.read_text(encoding="utf-8")
    # Everything that is folded is measured too; without its policy, what could run would run.
    text = text.replace("<details", "<details open") if open_all else text
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    code = (
        "onload = () => { const view = document.getElementById('frame');"
        "const page = view.contentDocument; const answer = (() => {" + script + "})();"
        "document.body.dataset.answer = JSON.stringify(answer); };"
    )
    outer = page.parent / f"outer-{width}.html"
    frame = f'<iframe id="frame" width="{width}" height="900" frameborder="0"'
    outer.write_text(
        f'<body>{frame} srcdoc="{html.escape(text)}"></iframe><script>{code}</script></body>',
        "utf-8",
    )
    dom = browse(outer.as_uri(), page.parent / "profile", "--dump-dom", width=width + 100)
    found = re.search(r'data-answer="([^"]*)"', dom)
    assert found is not None
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer


MEASURE = """
const root = page.documentElement;
const shown = (e) => e.getClientRects().length > 0;
const inBox = (e) => e.closest(".scroll") !== null;
const name = (e) => e.tagName + "." + e.getAttribute("class") + ": " + e.textContent.slice(0, 40);
const all = [...page.body.querySelectorAll("*")].filter(shown);
const outside = all.filter((e) => !inBox(e) &&
  e.getBoundingClientRect().right > root.clientWidth + 1);
const cut = all.filter((e) => !inBox(e) && !e.closest("svg") && e.scrollWidth > e.clientWidth + 1 &&
  getComputedStyle(e).display !== "inline");
const overlap = [];
for (const chart of page.querySelectorAll("svg.chart")) {
  const box = chart.getBoundingClientRect();
  const texts = [...chart.querySelectorAll("text")];
  const boxes = texts.map((t) => t.getBoundingClientRect());
  boxes.forEach((a, i) => {
    if (a.left < box.left - 1 || a.right > box.right + 1)
      overlap.push("out: " + texts[i].textContent);
    boxes.slice(i + 1).forEach((b, j) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 0.5 && high > 3)
        overlap.push(texts[i].textContent + " | " + texts[i + j + 1].textContent);
    });
  });
}
return {
  width: root.scrollWidth, outside: outside.map(name), cut: cut.map(name), overlap,
  boxes: page.querySelectorAll(".scroll").length, charts: page.querySelectorAll("svg.chart").length,
  small: all.filter((e) => parseFloat(getComputedStyle(e).fontSize) < 11).map(name),
};
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overlaps_or_sticks_out_on_a_phone_or_a_laptop(page: Path, width: int) -> None:
    found = framed(page, width, MEASURE)
    assert found["width"] == width
    assert [found["outside"], found["cut"], found["overlap"], found["small"]] == [[], [], [], []]
    assert found["charts"] == 7 and found["boxes"] > 8


SCALED = """
return {marks: [...page.querySelectorAll("script, img, [onerror]")].length, title: page.title,
        outer: document.title, ins: page.querySelectorAll("ins").length};
"""


def test_a_script_in_a_sample_does_not_run_though_the_policy_is_taken_away(page: Path) -> None:
    found = framed(page, 390, SCALED)
    title = "Report: a-run-with-a-long-name-and-no-spaces-in-it, short"
    assert (found["marks"], found["title"], found["outer"]) == (0, title, "")
    assert isinstance(found["ins"], int) and found["ins"] > 8


CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const bad = [];
const check = (e, color, needed) => {
  const [a, b] = [light(parse(color)), light(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < needed)
    bad.push(e.tagName + "." + e.getAttribute("class") + " " + ratio.toFixed(2));
};
const words = "p, td, th, dt, dd, ins, del, a, code, pre, li, summary, .badge, .tag";
const each = (names, act) => page.querySelectorAll(names).forEach(act);
each(words, (e) => check(e, getComputedStyle(e).color, 4.5));
each("svg text", (e) => check(e.closest("figure"), getComputedStyle(e).fill, 4.5));
each(".bar, .dot", (e) => check(e.closest("figure, table"), getComputedStyle(e).fill, 3));
const paper = parse(getComputedStyle(page.body).backgroundColor);
return {bad: [...new Set(bad)], dark: light(paper) < 0.2};
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_marks_stand_out_from_what_is_behind_them(page: Path, dark: bool) -> None:
    """WCAG 2: 4.5 for text, 3 for graphics."""
    copy = page.with_name(f"contrast-{dark}.html")
    scheme = "(prefers-color-scheme: dark)"
    text = page.read_text(encoding="utf-8")
    assert scheme in text
    # A frame made of text does not follow the option that asks for dark pages.
    copy.write_text(
        text.replace(scheme, "all") if dark else text.replace(scheme, "not all"), "utf-8"
    )
    assert framed(copy, 1280, CONTRAST) == {"bad": [], "dark": dark}


def test_the_page_follows_the_reader_into_the_dark(page: Path) -> None:
    pictures = []
    for dark in (False, True):
        picture = page.parent / f"{dark}.png"
        words = ["--blink-settings=preferredColorScheme=0"] if dark else []
        browse(page.as_uri(), page.parent / "profile", f"--screenshot={picture}", *words)
        pictures.append(picture.read_bytes())
    assert all(len(picture) > 50_000 for picture in pictures)
    assert pictures[0] != pictures[1]
