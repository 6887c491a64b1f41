"""Scores in languages with and without blanks between words."""

import importlib.util
import unicodedata
from dataclasses import replace

import pytest
import sacrebleu
from rouge_score.tokenize import tokenize

from dlm.errors import UserError
from dlm.evaluation.metrics import METRICS
from dlm.evaluation.scores import SCORES, SPACED, Texts, score
from dlm.evaluation.words import check_spaced, check_tokenizer, fitting_tokenizer, words

TEXTS = {
    "en": ["The cat sat on the mat.", "He reads a book every day."],
    "de": ["Er hätte für die Größe der Tür üben müssen.", "Das Mädchen läuft über die Straße."],
    "fr": ["L’été dernier, elle a mangé des pâtes.", "Il a lu ce livre à l'école."],
    "es": ["Los niños comieron mañana y ayer.", "¿Qué año es este, señor?"],
    "ru": ["Кошка сидит на старом ковре.", "Завтра будет сильный дождь."],
    "el": ["Η γάτα κάθεται πάνω στο χαλί.", "Αύριο θα βρέξει πολύ εδώ."],
    "ar": ["القطة تجلس على السجادة القديمة.", "غدا سوف تمطر كثيرا هنا؟"],
    "hi": ["बिल्ली चटाई पर बैठी है।", "कल यहाँ बहुत बारिश होगी।"],
    "bn": ["বিড়ালটি মাদুরের উপর বসে আছে।", "কাল এখানে খুব বৃষ্টি হবে।"],
    "te": ["పిల్లి చాప మీద కూర్చుంది ఇప్పుడు.", "రేపు ఇక్కడ చాలా వర్షం పడుతుంది."],
    "th": ["แมวนั่งอยู่บนเสื่อเก่า", "พรุ่งนี้ฝนจะตกหนักมากที่นี่"],
    "ja": ["猫は古いマットの上に座っています。", "明日はここで雨がたくさん降ります。"],
    "zh": ["猫坐在旧垫子上面。", "明天这里会下很大的雨。"],
    "ko": ["고양이가 오래된 매트 위에 앉아 있다.", "내일 여기에 비가 많이 올 것이다."],
}
CHINESE = (
    ["我们今天去北京大学看书。", "他说明天会下雨。", "这是一个很好的例子。", "猫坐在垫子上。"],
    ["我们今天去北京大学读书。", "他说明天会下雪。", "这是一个非常好的例子。", "猫坐在垫子上面。"],
)
OF_TEXTS = [
    name for name in SCORES
    if not name.endswith("_ascii") and name not in ("number_match", "choice_match", "sari")
]  # fmt: skip


UNSPACED = ("th", "ja", "zh")


@pytest.mark.parametrize(
    ("name", "language"),
    [(name, language) for name in OF_TEXTS for language in TEXTS
     if name not in SPACED or language not in UNSPACED],
)  # fmt: skip
def test_a_reference_against_itself_is_perfect_in_every_language(name: str, language: str) -> None:
    texts = TEXTS[language]
    best = 0 if SCORES[name].lower_is_better else 100
    assert score(name, texts, texts, samples=0).value == pytest.approx(best)
    worse = score(name, [texts[1], texts[0]], texts, samples=0).value
    assert worse > 20 if best == 0 else worse < 60


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("name", SPACED)
def test_a_score_of_words_between_blanks_is_refused_for_texts_without_blanks(
    name: str, language: str
) -> None:
    if language not in UNSPACED:
        check_spaced(name, language, ())
        check_spaced(name, "", [TEXTS[language]])
        return
    with pytest.raises(UserError, match=f"{name} cuts words at blanks .*: take bleu_lowercase"):
        check_spaced(name, language, ())
    with pytest.raises(UserError, match="these references have no blanks"):
        check_spaced(name, "", [TEXTS[language]])


@pytest.mark.parametrize("language", TEXTS)
def test_a_rewriting_that_is_its_reference_has_the_whole_of_sari_in_every_language(
    language: str,
) -> None:
    """The source has the beginning of the reference, so that something is kept, what is to be
    deleted, and not what is to be added."""
    wanted, other = TEXTS[language]
    mark = "" if language in UNSPACED else " "
    kept = mark.join((list(wanted) if language in UNSPACED else wanted.split())[:4])
    texts = Texts([wanted], [[wanted]], [f"{other} {kept}"])
    of_sari = SCORES["sari"]
    assert of_sari.aggregate(of_sari.statistics(texts).sum(axis=0)) == pytest.approx(100)
    left = replace(texts, hypotheses=texts.sources)
    assert of_sari.aggregate(of_sari.statistics(left).sum(axis=0)) < 40


def test_chinese_bleu_is_sacrebleus_with_its_tokenizer_for_chinese() -> None:
    given, right = CHINESE
    expected = sacrebleu.corpus_bleu(given, [right], tokenize="zh").score
    assert score("bleu", given, right, samples=0).value == pytest.approx(expected)
    assert 40 < expected < 80 < 100 - score("ter", given, right, samples=0).value
    texts = Texts(given, [[text] for text in right])
    assert "|tok:zh|" in SCORES["bleu"].signature(texts)
    assert SCORES["ter"].signature(texts).endswith("|words:zh")
    sample = {"source": "", "hypothesis": given[0], "reference": right[0]}
    signature = METRICS["generation"]["bleu"].signature
    assert "|tok:zh|" in signature([sample])
    assert "|tok:char|" in signature([sample | {"language": "th"}])
    for name in ("token_f1", "rouge_1"):
        assert 70 < score(name, given, right, samples=0).value < 100


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [("zh", "zh"), ("zho_Hans", "zh"), ("ja", "ja-mecab"), ("jpn_Jpan", "ja-mecab"),
     ("ko", "ko-mecab"), ("th-TH", "char"), ("de", "13a"), ("deu_Latn", "13a")],
)  # fmt: skip
def test_the_language_of_a_task_chooses_the_tokenizer(language: str, tokenizer: str) -> None:
    assert fitting_tokenizer(language, [["any"]]) == tokenizer


@pytest.mark.parametrize("language", TEXTS)
def test_without_a_language_the_script_of_the_references_does(language: str) -> None:
    fits = {"zh": "zh", "ja": "char", "th": "char"}.get(language, "13a")
    assert fitting_tokenizer("", [TEXTS[language]]) == fits
    assert fitting_tokenizer("", [["Beijing (北京) is the capital of China."]]) == "13a"
    assert fitting_tokenizer("", [["123 !"], [""]]) == "13a"


@pytest.mark.parametrize(
    ("language", "package"), [("ja", "MeCab"), ("jpn", "ipadic"), ("kor_Hang", "mecab_ko")]
)
def test_a_tokenizer_that_is_not_installed_is_refused_by_its_extra(
    language: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(UserError, match=rf"lacks .*{package}.*: pip install 'dlm\[(ja|ko)\]'"):
        check_tokenizer(language)
    check_tokenizer("de")
    check_tokenizer("")


@pytest.mark.parametrize("text", ["The cat's 3 mats, well-worn_rug.", "A $5 note: 3.14!", ""])
def test_words_of_ascii_texts_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == tokenize(text, None)


def test_words_keep_their_marks() -> None:
    assert words("Die Größe, mu\u0308ssen") == ["die", "größe", "müssen"]
    assert words("বিড়ালটি বসে") == [unicodedata.normalize("NFC", "বিড়ালটি"), "বসে"]
    assert words("กี่ 北京 3") == ["กี่", "北", "京", "3"]
