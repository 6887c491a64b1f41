"""Infilling: what is read as a mask, how rows are put together, what comes back."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_generation import PROMPTS, TEXTS, count_calls, tiny_model, word_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.encoding import encode_responses, encode_rows
from dlm.errors import UserError
from dlm.generation import infill as infill_module
from dlm.generation.infill import Infilled, InfillTemplate, infill, parse_infill
from dlm.generation.model import GenerativeModel
from dlm.generation.pieces import Pieces
from dlm.generation.settings import GenerationSettings
from dlm.tokens.train import SPECIAL_TOKENS, train_tokenizer

ITERATIONS = 3
SETTINGS = GenerationSettings(num_iterations=ITERATIONS)
TEMPLATES = [
    "the [MASK:3] ran",
    "a dog [MASK] on the [MASK:2]",
    "[MASK:4]",
    "der[MASK]hund[MASK:2]",
]


@pytest.mark.parametrize(
    ("text", "texts", "spans"),
    [
        ("The [MASK:3] sat on the [MASK]", ("The ", " sat on the ", ""), (3, 1)),
        ("[MASK]", ("", ""), (1,)),
        ("[MASK:12][MASK].", ("", "", "."), (12, 1)),
        ("[x] un[MASK:2]able [masked] <mask>", ("[x] un", "able [masked] <mask>"), (2,)),
    ],
)
def test_masks_are_read_anywhere(text: str, texts: tuple[str], spans: tuple[int]) -> None:
    template = parse_infill(text)
    assert template == InfillTemplate(texts, spans)
    assert str(template) == text


@pytest.mark.parametrize(
    ("text", "position", "found"),
    [
        ("a [MASK:0]", 3, "[MASK:0]"),
        ("a [MASK] [MASK:x] b", 10, "[MASK:x]"),
        ("[MASK:-1]", 1, "[MASK:-1]"),
        ("[MASK:]", 1, "[MASK:]"),
        ("a [MASK: 3]", 3, "[MASK: 3]"),
        ("[ MASK]", 1, "[ MASK]"),
        ("[mask:3]", 1, "[mask:3]"),
        ("[MASK:1.5]", 1, "[MASK:1.5]"),
        ("[MASK:٣]", 1, "[MASK:٣]"),
        ("the [MASK", 5, "[MASK"),
        ("[MASK [MASK]", 1, "[MASK "),
        (f"[MASK:{'9' * 5000}]", 1, "[MASK:9999"),
    ],
)
def test_a_mask_written_wrongly_is_refused_with_its_place(
    text: str, position: int, found: str
) -> None:
    with pytest.raises(UserError) as refused:
        parse_infill(text, place="infill text 2 of 3")
    message = str(refused.value)
    assert message.startswith(f"infill text 2 of 3, character {position}: '{found}")
    assert "write [MASK] for one token or [MASK:3] for three" in message
    assert len(message) < 250


@pytest.mark.parametrize("text", ["", "the red fox", "<mask>", "[MASKS]"])
def test_a_text_without_masks_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="has no mask, so there is nothing to fill in"):
        parse_infill(text)


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False,
        ),
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def word_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        [*TEXTS, "unable, able. running runs (sat)"] * 3,
        trainers.WordPieceTrainer(
            vocab_size=90, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bpe with ▁": word_tokenizer,
    "unigram with ▁": lambda: train_tokenizer(TEXTS * 5, algorithm="unigram", vocab_size=60),
    "bytes": byte_level,
    "word pieces": word_piece,
}
SPLITS = [
    ("the red fox ran", "the ", "red", " fox ran"),
    ("the red fox ran", "the r", "ed", " fox ran"),
    ("the red fox ran", "the ", "r", "ed fox ran"),
    ("a dog sat on the mat", "", "a dog", " sat on the mat"),
    ("a dog sat on the mat", "a dog sat on the", " mat", ""),
    ("der hund lief schnell", "der hu", "nd lie", "f schnell"),
]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("whole", "before", "gone", "behind"), SPLITS)
def test_what_fits_the_gap_gives_the_text_back_without_a_blank_more_or_less(
    name: str, whole: str, before: str, gone: str, behind: str
) -> None:
    """Fill the masks with the tokens that the gap's own text has there."""
    tokenizer = TOKENIZERS[name]()
    model = tiny_model(tokenizer=tokenizer)
    pieces = Pieces(tokenizer)
    missing = (" " if before.endswith(" ") else "") + gone
    tokens = pieces.encode_after(missing) if before else encode_responses(tokenizer, [gone])[0]
    template = InfillTemplate((before, behind), (len(tokens),))
    row = infill_module._row(model, pieces, [model.special.begin], template, "text").tokens
    start = row.index(model.special.mask)
    filled = [*row[1:start], *tokens, *row[start + len(tokens) : -1]]
    assert str(tokenizer.decode(filled, clean_up_tokenization_spaces=False)).strip() == whole
    assert infill_module._completed(template, tokens, pieces, 0.0).text == whole


def test_between_words_a_row_is_the_one_of_pretraining_with_masks_in_it() -> None:
    model = tiny_model()
    special, words = model.special, "the red fox ran"
    rows = encode_rows(model.tokenizer, [""], [words], conditional=False)
    expected = rows.row(0).tolist()
    red = model.tokenizer(" red", add_special_tokens=False)["input_ids"]
    template = parse_infill(f"the [MASK:{len(red)}] fox ran")
    row = infill_module._row(
        model, Pieces(model.tokenizer), [special.begin], template, "text"
    ).tokens
    places = [i for i, token in enumerate(row) if token == special.mask]
    assert [expected[i] for i in places] == red
    assert [t for i, t in enumerate(row) if i not in places] == [
        t for i, t in enumerate(expected) if i not in places
    ]


@torch.no_grad()
def fill_by_hand(
    model: GenerativeModel, row: list[int], iterations: int
) -> tuple[list[int], float]:
    """reparam-uncond, cosine, argmax on the masks of one row, with the network's own logits."""
    mask = model.special.mask
    places = [i for i, token in enumerate(row) if token == mask]
    row, noise, log_p = list(row), set(places), dict.fromkeys(places, 0.0)
    for m in range(1, iterations + 1):
        logits = model.backbone.network(input_ids=torch.tensor([row])).logits[0].double()
        logits[:, model.tokenizer.all_special_ids] = -math.inf
        score, choice = (values.tolist() for values in logits.log_softmax(-1).max(-1))
        share = 0.0 if m == iterations else math.cos(math.pi * m / 2 / iterations)
        lowest = set(sorted(places, key=lambda i: (score[i], i))[: math.floor(len(places) * share)])
        for i in places:
            if i in lowest:
                row[i], log_p[i] = mask, 0.0
            elif i in noise:
                row[i], log_p[i] = choice[i], score[i]
        noise = lowest
    return row, sum(log_p.values()) / len(places)


def by_hand(model: GenerativeModel, text: str, prompt: str | None) -> Infilled:
    special, template = model.special, parse_infill(text)
    pieces, ids = Pieces(model.tokenizer), lambda t: model.tokenizer(t, add_special_tokens=False)
    head = [special.begin]
    if prompt is not None:
        head += [*ids(prompt)["input_ids"], special.end]
    row = infill_module._row(model, pieces, head, template, "text").tokens
    filled, score = fill_by_hand(model, row, ITERATIONS)
    tokens = [new for new, old in zip(filled, row, strict=True) if old == special.mask]
    return infill_module._completed(template, tokens, pieces, score)


@pytest.mark.parametrize("with_prompts", [False, True])
@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_texts_are_completed_as_by_a_loop_over_one_row(
    with_prompts: bool, batch_tokens: int
) -> None:
    model = tiny_model()
    prompts = PROMPTS[: len(TEMPLATES)] if with_prompts else None
    settings = replace(SETTINGS, batch_tokens=batch_tokens)
    result = infill(model, list(map(parse_infill, TEMPLATES)), settings, prompts=prompts)
    for number, (text, answer) in enumerate(zip(TEMPLATES, result.answers, strict=True)):
        expected = by_hand(model, text, prompts[number] if prompts else None)
        assert (answer.text, answer.spans) == (expected.text, expected.spans)
        assert answer.score == pytest.approx(expected.score, abs=1e-4)


def test_a_prompt_changes_what_is_filled_in() -> None:
    model, templates = tiny_model(), list(map(parse_infill, TEMPLATES))
    alone = infill(model, templates, SETTINGS)
    prompted = infill(model, templates, SETTINGS, prompts=PROMPTS[: len(TEMPLATES)])
    assert [a.text for a in alone.answers] != [a.text for a in prompted.answers]


def test_given_text_comes_back_to_the_letter_even_where_the_tokenizer_knows_no_such_thing() -> None:
    model = tiny_model()
    text = "  The 🙂 </s>  [MASK:2] <mask>\n[MASK], ÄÖ "
    (answer,) = infill(model, [parse_infill(text)], SETTINGS).answers
    first, second = answer.spans
    assert answer.text == f"  The 🙂 </s>  {first} <mask>\n{second}, ÄÖ "


def test_network_calls_are_counted_and_nothing_of_the_length_is_predicted() -> None:
    model = tiny_model()
    shapes = count_calls(model)
    settings = replace(SETTINGS, batch_tokens=20)
    result = infill(model, list(map(parse_infill, TEMPLATES)), settings)
    assert result.network_calls == len(shapes) >= 2 * ITERATIONS


def test_a_history_has_a_slot_for_every_mask() -> None:
    model, templates = tiny_model(), list(map(parse_infill, TEMPLATES))
    plain = infill(model, templates, SETTINGS)
    recorded = infill(model, templates, SETTINGS, record=True)
    assert recorded.answers == plain.answers and plain.histories == []
    for template, history in zip(templates, recorded.histories, strict=True):
        assert len(history) == ITERATIONS
        assert {len(frame.token_ids) for frame in history} == {sum(template.spans)}
        assert not any(history[-1].noise)


@pytest.mark.parametrize(
    "text", ["[MASK:39]", "the red fox [MASK:999999999]", "x " * 40 + "[MASK]"]
)
def test_more_than_the_models_positions_is_refused_before_any_work(text: str) -> None:
    model = tiny_model(max_positions=40)
    shapes = count_calls(model)
    with pytest.raises(UserError) as refused:
        infill(model, list(map(parse_infill, ["[MASK]", text])), SETTINGS)
    assert "infill text 2 of 2 has " in str(refused.value)
    assert "do not fit the model's 40 positions: use fewer masks or a shorter text" in str(
        refused.value
    )
    assert shapes == []
    (full,) = infill(model, [parse_infill("[MASK:38]")], SETTINGS).answers
    assert full.text


def test_an_autoregressive_model_cannot_fill_in() -> None:
    with pytest.raises(UserError, match="cannot fill in text: use a diffusion model"):
        infill(tiny_model("autoregressive"), [parse_infill("[MASK]")], SETTINGS)


@pytest.mark.parametrize("decoder", [None, decoders.Fuse()], ids=["blanks between", "fused"])
@pytest.mark.parametrize("letters", ["ACGT", "甲乙丙丁"])
def test_an_alphabet_of_its_own_is_read_behind_its_own_letters(letters: str, decoder: Any) -> None:
    """Without a letter to stand behind (no small ones, no digits) or with one that has a blank
    behind it: the text is read as it is."""
    vocabulary = {token: number for number, token in enumerate(["<unk>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    if decoder is not None:
        tokenizer.decoder = decoder
    pieces = Pieces(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))
    ids = [vocabulary[letter] for letter in letters]
    assert pieces.encode_after(letters) == ids
    assert pieces.decode_after(ids).replace(" ", "") == letters
    if decoder is not None:
        assert pieces.decode_after(ids) == letters


@pytest.mark.parametrize("letters", ["ACGT", "ACDEFGHIKLMNPQRSTVWY", "ΑΒΓΔΕ", "01", "()[]=#CNO"])
def test_an_alphabet_without_small_letters_is_filled_in(letters: str) -> None:
    """Nothing of the usual alphabet is known, by which blanks between tokens could be found."""
    words = {word: i for i, word in enumerate([*SPECIAL_TOKENS.values(), *letters])}
    made = Tokenizer(models.WordLevel(words, unk_token=SPECIAL_TOKENS["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL_TOKENS)
    head, tail = letters[:2] * 2, letters[:2][::-1]
    template = parse_infill(f"{head}[MASK:3]{tail}")
    (answer,) = infill(tiny_model(tokenizer=tokenizer), [template], SETTINGS).answers
    assert answer.text == f"{head}{answer.spans[0]}{tail}"
    assert len(answer.spans[0]) == 3 and set(answer.spans[0]) <= set(letters)
