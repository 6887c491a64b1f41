"""The denoising trace: what is recorded, as lines and as a page in a real browser."""

import html
import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from browser import browse, needs_browser
from tiny_generation import PROMPTS, FixedLengths, random_predictor, tiny_model

from dlm.diffusion.sampling.state import Canvas
from dlm.errors import UserError
from dlm.generation.generate import generate
from dlm.generation.generated import Generation
from dlm.generation.pieces import Pieces
from dlm.generation.settings import GenerationSettings
from dlm.generation.trace import Frame, Recorder, Trace, TraceFile
from dlm.generation.trace_page import trace_page

SETTINGS = GenerationSettings(num_iterations=4, length_beam=4)
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=alert(1)> & \u2028 "
    "@@TRACE@@"
)


def canvas(tokens: list[list[int]], slots: list[int], log_p: float) -> Canvas:
    """Token 4 is the mask."""
    tokens_BN = torch.tensor(tokens)
    slot_BN = torch.arange(tokens_BN.shape[1])[None] < torch.tensor(slots)[:, None]
    noise_BN = (tokens_BN == 4) & slot_BN
    log_probability_BN = torch.full(tokens_BN.shape, log_p).masked_fill(tokens_BN == 4, 0.0)
    return Canvas(tokens_BN, noise_BN, slot_BN, log_probability_BN, log_probability_BN)


def test_a_history_says_what_was_set_and_what_returned_to_noise_in_each_iteration() -> None:
    recorder = Recorder(rows_wait=False)
    recorder(1, canvas([[7, 4, 8], [9, 4, 4]], [3, 2], -0.5))
    recorder(2, canvas([[4, 6, 8], [9, 4, 4]], [3, 2], -0.25))
    recorder(3, canvas([[5, 6, 8], [9, 9, 4]], [3, 2], -0.125))
    assert recorder.history(0) == (
        Frame([7, 4, 8], [False, True, False], [False] * 3, [-0.5, 0.0, -0.5]),
        Frame([4, 6, 8], [True, False, False], [True, False, False], [0.0, -0.25, -0.25]),
        Frame([5, 6, 8], [False] * 3, [False] * 3, [-0.125] * 3),
    )
    assert [frame.token_ids for frame in recorder.history(1)] == [[9, 4], [9, 4], [9, 9]]
    assert not any(any(frame.returned) for frame in recorder.history(1))


def test_waiting_for_the_other_rows_of_a_batch_is_no_part_of_a_history() -> None:
    recorder = Recorder(rows_wait=True)
    recorder(1, canvas([[7, 4], [9, 9]], [2, 2], -0.5))
    recorder(2, canvas([[7, 6], [9, 9]], [2, 2], -0.5))
    assert len(recorder.history(0)) == 2
    assert len(recorder.history(1)) == 1


def test_recording_changes_no_answer_and_is_off_unless_asked_for() -> None:
    model = tiny_model(predictor=random_predictor())
    plain = generate(model, PROMPTS, SETTINGS)
    recorded = generate(model, PROMPTS, SETTINGS, record=True)
    assert plain.histories == []
    assert replace(recorded, histories=[]) == plain
    assert len(recorded.histories) == len(PROMPTS)


@pytest.mark.parametrize("batch_tokens", [1, 90, 10_000])
def test_the_history_is_that_of_the_chosen_length(batch_tokens: int) -> None:
    model = tiny_model(predictor=FixedLengths(6, 3, 11, 8))
    result = generate(model, PROMPTS, replace(SETTINGS, batch_tokens=batch_tokens), record=True)
    assert len({answer.length for answer in result.answers}) > 1
    for answer, history in zip(result.answers, result.histories, strict=True):
        end = history[-1]
        assert len(end.token_ids) == answer.length
        assert not any(end.noise)
        assert str(model.tokenizer.decode(end.token_ids)).strip() == answer.text
        assert sum(end.log_probability) / answer.length == pytest.approx(answer.score, abs=1e-4)


@pytest.mark.parametrize("sampler", ["fast-dllm", "eb", "reparam-cond-deterministic-linear"])
def test_the_history_of_a_prompt_does_not_depend_on_its_batch(sampler: str) -> None:
    model = tiny_model(predictor=random_predictor())
    settings = replace(SETTINGS, sampler=sampler, num_iterations=8)
    together = generate(model, PROMPTS, settings, record=True).histories
    alone = generate(model, PROMPTS, replace(settings, batch_tokens=1), record=True).histories
    assert [[(f.token_ids, f.returned) for f in history] for history in together] == [
        [(f.token_ids, f.returned) for f in history] for history in alone
    ]


def test_every_frame_has_the_noise_of_the_schedule_and_the_log_probabilities_of_the_rest() -> None:
    """reparam-uncond, cosine: floor(N cos(pi m / 2M)) slots are noise after iteration m."""
    model = tiny_model(predictor=FixedLengths(11))
    settings = replace(SETTINGS, num_iterations=6, length_beam=1)
    result = generate(model, PROMPTS, settings, record=True)
    returned = 0
    for history in result.histories:
        counts = [math.floor(11 * math.cos(math.pi * m / 12)) for m in range(1, 6)] + [0]
        assert [sum(frame.noise) for frame in history] == counts
        for before, frame in pairwise(history):
            changes = zip(before.noise, frame.noise, frame.returned, strict=True)
            assert all(back == (now and not old) for old, now, back in changes)
            returned += sum(frame.returned)
        for frame in history:
            slots = list(zip(frame.token_ids, frame.noise, frame.log_probability, strict=True))
            assert all((token == model.special.mask) == noise for token, noise, _ in slots)
            assert all((log_p == 0) if noise else (log_p < 0) for _, noise, log_p in slots)
    assert returned, "the example should send slots back to noise"


def test_an_autoregressive_model_has_no_trace() -> None:
    with pytest.raises(UserError, match="has no canvas to trace: use a diffusion model"):
        generate(tiny_model("autoregressive"), PROMPTS, SETTINGS, record=True)


def trace_file(prompts: list[str] = PROMPTS, **settings: int) -> TraceFile:
    model = tiny_model(predictor=FixedLengths(6, 3, 11, 8), max_positions=160)
    result = generate(model, prompts, replace(SETTINGS, **settings), record=True)  # type: ignore[arg-type]
    traces = traces_of(prompts, result)
    return TraceFile("runs/tiny", SETTINGS.shown("diffusion"), traces, Pieces(model.tokenizer))


def traces_of(prompts: list[str], result: Generation) -> list[Trace]:
    return [
        Trace(prompt, answer.text, answer.score, ("", ""), (answer.length,), history)
        for prompt, answer, history in zip(prompts, result.answers, result.histories, strict=True)
    ]


def test_lines_hold_one_prompt_and_iteration_each_and_end_in_the_answer() -> None:
    made = trace_file()
    rows = [json.loads(line) for line in made.jsonl().splitlines()]
    assert [(row["number"], row["iteration"]) for row in rows] == [
        (number, iteration) for number in range(1, 9) for iteration in range(1, 5)
    ]
    for row in rows:
        trace = made.traces[row["number"] - 1]
        frame = trace.history[row["iteration"] - 1]
        assert row["prompt"] == trace.prompt and row["answer"] == trace.answer
        assert row["model"] == "runs/tiny"
        assert row["settings"]["sampler"] == SETTINGS.sampler
        assert row["noise"] == frame.noise and row["returned"] == frame.returned
        for name in ("tokens", "log_probability"):
            assert [value is None for value in row[name]] == frame.noise
        if row["iteration"] == row["num_iterations"]:
            assert "".join(row["tokens"]).strip() == trace.answer


def data_of(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="trace">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found[1])
    return data


def test_the_page_keeps_any_text_inside_its_data() -> None:
    page = trace_page(trace_file(["a dog", HOSTILE]))
    assert page.count("</script>") == 2 and "onerror" in page and "<img" not in page
    traces = data_of(page)["traces"]
    assert isinstance(traces, list) and traces[1]["prompt"] == HOSTILE


def test_the_page_asks_the_network_for_nothing() -> None:
    page = trace_page(trace_file())
    assert not re.search(r"https?:|//[a-z]|<link|@import|url\(|src=|fetch\(", page)
    assert "default-src 'none'" in page


def shown(page: Path, fragment: str, *words: str, script: str = "", width: int = 1200) -> str:
    """The text of the page's elements after its scripts, and one of ours behind them."""
    copy = page.with_suffix(".tested.html")
    copy.write_text(page.read_text(encoding="utf-8") + f"<script>{script}</script>", "utf-8")
    return browse(
        f"{copy.as_uri()}#{fragment}", page.parent / "profile", "--dump-dom", *words, width=width
    )


def element(dom: str, name: str) -> str:
    """The text inside the element of an id."""
    found = re.search(rf'<(\w+)[^>]* id="{name}"[^>]*>(.*?)</\1>', dom, re.DOTALL)
    assert found is not None, name
    return html.unescape(re.sub(r"<[^>]+>", "", found[2]))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(trace_page(trace_file([HOSTILE, *PROMPTS], num_iterations=6)), "utf-8")
    return path


@pytest.mark.slow
@needs_browser
def test_the_page_shows_an_iteration_as_it_was(page: Path) -> None:
    traces = data_of(page.read_text(encoding="utf-8"))["traces"]
    assert isinstance(traces, list)
    number = next(
        n for n, trace in enumerate(traces) if any(any(f["returned"]) for f in trace["frames"])
    )
    frames = traces[number]["frames"]
    iteration = next(m for m, frame in enumerate(frames, start=1) if any(frame["returned"]))
    frame = frames[iteration - 1]
    dom = shown(page, f"prompt={number + 1}&iteration={iteration}")
    chips = re.findall(r'<span class="(slot[^"]*)" data-slot="\d+"', dom)
    returned = [bool(value) for value in frame["returned"]]
    assert ["returned" in names.split() for names in chips] == returned
    empty = [
        token == -1 and not back for token, back in zip(frame["tokens"], returned, strict=True)
    ]
    assert ["noise" in names.split() for names in chips] == empty
    held = sum(token >= 0 for token in frame["tokens"])
    status = element(dom, "status")
    assert f"Iteration {iteration} of 6: {held} of {len(chips)} slots hold a token" in status
    assert f"{sum(returned)} returned to noise" in status


@pytest.mark.slow
@needs_browser
def test_the_page_shows_text_as_text_and_offers_every_prompt(page: Path) -> None:
    dom = shown(page, "prompt=1")
    assert "<title>Denoising trace: runs/tiny</title>" in dom
    assert element(dom, "prompt") == HOSTILE
    assert "<img" not in dom
    assert dom.count("<option") == len(PROMPTS) + 1 + 4
    for word in ("runs/tiny", SETTINGS.sampler, "num iterations"):
        assert word in element(dom, "settings")


@pytest.mark.slow
@needs_browser
def test_a_single_prompt_offers_no_choice(tmp_path: Path) -> None:
    page = tmp_path / "one.html"
    page.write_text(trace_page(trace_file(PROMPTS[:1])), "utf-8")
    script = 'document.body.dataset.shown = at("choice").getClientRects().length;'
    assert 'data-shown="0"' in shown(page, "", script=script)


PLAY = """
document.getElementById("choice").value = "2";
document.getElementById("choice").dispatchEvent(new Event("change"));
document.getElementById("play").click();
document.body.dataset.label = document.getElementById("play").getAttribute("aria-label");
"""


@pytest.mark.slow
@needs_browser
def test_play_begins_again_at_the_noise_and_ends_with_the_answer(page: Path) -> None:
    begun = shown(page, "", script=PLAY)
    assert 'data-label="Pause"' in begun
    assert "Iteration 0 of 6: 0 of" in element(begun, "status")
    done = shown(page, "", "--virtual-time-budget=60000", script=PLAY)
    assert "Iteration 6 of 6" in element(done, "status")
    assert 'id="play" aria-label="Play"' in done
    tokens = [html.unescape(t) for t in re.findall(r'title="slot \d+ of \d+: “(.*?)”', done)]
    assert "".join(tokens).strip() == element(done, "answer") != ""


KEYS = """
const press = (key, where) =>
  where.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
for (const key of ["Home", "ArrowRight", "ArrowRight"]) press(key, document.body);
press("ArrowRight", document.querySelector('[data-slot="0"]'));
document.getElementById("previous").click();
"""


@pytest.mark.slow
@needs_browser
def test_the_keyboard_steps_and_reads_slots(page: Path) -> None:
    dom = shown(page, "", script=KEYS)
    assert "Iteration 1 of 6" in element(dom, "status")
    assert element(dom, "detail").startswith("slot 2 of ")


MEASURE = """
onload = () => {
  const inner = document.getElementById("frame");
  document.body.dataset.widths =
    `${inner.contentDocument.documentElement.scrollWidth} ${inner.contentWindow.innerWidth}`;
};
"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_sticks_out_at_the_width_of_a_phone_or_a_desk(page: Path, width: int) -> None:
    """In a frame: a window of Chromium is no narrower than 500 pixels where it prints the DOM."""
    text = html.escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe id="frame" width="{width}" height="1400" frameborder="0" srcdoc="{text}">'
    outer = page.parent / "outer.html"
    outer.write_text(f"<body>{frame}</iframe><script>{MEASURE}</script></body>", "utf-8")
    dom = browse(outer.as_uri(), page.parent / "profile", "--dump-dom")
    assert f'data-widths="{width} {width}"' in dom


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_drawn_light_and_dark(page: Path, width: int) -> None:
    pictures = []
    for dark in (False, True):
        picture = page.parent / f"{width}-{dark}.png"
        words = ["--blink-settings=preferredColorScheme=0"] if dark else []
        url = f"{page.as_uri()}#prompt=1&iteration=3"
        browse(url, page.parent / "profile", f"--screenshot={picture}", *words, width=width)
        pictures.append(picture.read_bytes())
    assert all(len(picture) > 20_000 for picture in pictures)
    assert pictures[0] != pictures[1]
