"""Answers that end themselves: one canvas of a fixed length a prompt, cut at its first end token.

LLaDA (arXiv 2502.09992), Dream (arXiv 2508.15487). There is one candidate, so nothing is reranked.
"""

from dlm.distributed.share import ALONE, Share
from dlm.errors import UserError
from dlm.generation.batches import batches_of_like_length
from dlm.generation.diffusion import denoise_masks
from dlm.generation.generated import Generated, Generation
from dlm.generation.lengths import longest_prompt
from dlm.generation.model import GenerativeModel
from dlm.generation.settings import GenerationSettings
from dlm.generation.slot_network import SlotRow
from dlm.generation.trace import History, Recorder
from dlm.tokens.text_form import decode_texts


def generate_on_canvas(
    model: GenerativeModel,
    prompt_ids: list[list[int]],
    settings: GenerationSettings,
    *,
    record: bool = False,
    share: Share = ALONE,
) -> Generation:
    """Decode a canvas of ``settings.canvas_length`` tokens behind every prompt; the rows are those
    of training, with masks where the response and its padding stood.

    Raises:
        UserError: A prompt and the canvas have more tokens than the model has positions.
    """
    assert settings.canvas_length is not None, "settled before"
    longest = max(map(len, prompt_ids))
    if longest > longest_prompt(model, settings):
        raise UserError(
            f"a prompt of {longest} tokens leaves no room for an answer: a canvas of "
            f"{settings.canvas_length} tokens does not fit behind it in "
            f"{model.backbone.room_text}; shorten the prompt, or lower "
            "generation.canvas_length"
        )
    canvas = settings.canvas_length
    rows = [SlotRow.behind(ids, canvas, model.special, ends=False) for ids in prompt_ids]
    answers: dict[int, Generated] = {}
    histories: dict[int, History] = {}
    calls = without_end = 0

    def work(batch: list[int]) -> tuple[list[list[int]], list[list[float]], int, list[History]]:
        recorder = Recorder.for_sampler(settings.parts()) if record else None
        result = denoise_masks(
            model, [rows[i] for i in batch], settings, recorder, ends_itself=True
        )
        kept = [recorder.history(place) for place in range(len(batch))] if recorder else []
        tokens, log_probabilities = result.tokens_BN.tolist(), result.log_probability_BN.tolist()
        return tokens, log_probabilities, result.num_network_calls, kept

    batches = batches_of_like_length([len(row.tokens) for row in rows], settings.batch_tokens)
    for batch, (decoded, log_probabilities, batch_calls, kept) in zip(
        batches, share.map(work, batches), strict=True
    ):
        calls += batch_calls
        for place, (index, tokens) in enumerate(zip(batch, decoded, strict=True)):
            ended = model.special.end in tokens
            length = tokens.index(model.special.end) if ended else len(tokens)
            without_end += not ended
            scored = log_probabilities[place][: length + ended]
            (text,) = decode_texts(model.tokenizer, [tokens[:length]])
            answers[index] = Generated(text, length, sum(scored) / len(scored))
            if record:
                histories[index] = kept[place]
    order = range(len(prompt_ids))
    return Generation(
        [answers[i] for i in order],
        calls,
        [histories[i] for i in order] if record else [],
        without_end,
    )
