"""Whether a continuation is what the model would write, as lm-evaluation-harness asks."""

from tiny_generation import PROMPTS, TEXTS, tiny_model

from dlm.generation.generate import generate
from dlm.generation.settings import GenerationSettings
from dlm.harness.likelihoods import Pair, greedy

SETTINGS = GenerationSettings(length="oracle", num_iterations=3)


def test_what_is_written_at_a_continuations_length_is_greedy_and_nothing_else() -> None:
    model = tiny_model()
    words = sorted({word for text in TEXTS for word in text.split()})
    pairs = [Pair(prompt, word, 0) for prompt in PROMPTS for word in words]
    prompts = [pair.prompt for pair in pairs]

    def written(references: list[str]) -> list[str]:
        answers = generate(model, prompts, SETTINGS, references=references).answers
        return [answer.text or "the" for answer in answers]

    # A text that is written at its own length: found by writing again what was written.
    texts = written(written([pair.response for pair in pairs]))
    same = [text == again for text, again in zip(texts, written(texts), strict=True)]
    assert any(same) and not all(same)
    asked = [Pair(pair.prompt, text, 0) for pair, text in zip(pairs, texts, strict=True)]
    assert greedy(model, asked, SETTINGS) == same
    alone = [greedy(model, [pair], SETTINGS)[0] for pair in asked[::9]]
    assert alone == same[::9], "the batch made a difference"
