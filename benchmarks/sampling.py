"""Generation as it usually is and as it is here, in turn in one process on the same prompts.

    python benchmarks/sampling.py --shape small [--device cpu] [--prompts 16] [--samplers rdm llada]

The usual way: padded batches of like length, the Hugging Face model as it comes, logits of every
position in every iteration, every candidate of the length beam decoded to the end; at its best
number of tokens in a batch. Ours; then the same with one of the optimisations switched off at a
time. In float32 every way must give the same texts; in bf16 (a GPU) BLEU on the references within
0.1. Otherwise it ends with an error, whatever the speed.

The shapes are those of train_step.py, with random weights; lengths are guessed from the prompt's.
--model DIR --input F.jsonl (src, tgt) takes a model of a `length` stage and real texts instead.
--compiled adds both ways with the network compiled (give --repeats 3: the first run compiles).
--prompt-cache K adds ways that only approximate, and how many texts they leave as they are.
Prints JSON lines and a table. A CPU is compared by its processor time (--threads 1), which other
work disturbs least.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sacrebleu import corpus_bleu
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from train_step import BEGIN, END, MASK, PAD, SHAPES, network_of, rows_of
from transformers import PreTrainedTokenizerFast

from dlm.data.rows.encoding import encode_prompts
from dlm.diffusion.sampling import loop, samplers
from dlm.diffusion.sampling.draws import DrawKey, Draws
from dlm.diffusion.sampling.network import SlotNetwork, Wanted
from dlm.diffusion.sampling.schedule import noise_table, rate_tables
from dlm.diffusion.sampling.state import Canvas, Prediction, Step
from dlm.generation import slot_network
from dlm.generation.batches import batches_of_like_length
from dlm.generation.diffusion import generate_by_diffusion
from dlm.generation.lengths import pad
from dlm.generation.model import GenerativeModel, open_model
from dlm.generation.rerank import Candidate, best_of_each_prompt
from dlm.generation.settings import GenerationSettings
from dlm.models.attention.masks import response_of
from dlm.models.attention.packed import NAME
from dlm.models.backbone import Backbone
from dlm.models.length_predictor import top_lengths
from dlm.tokens.special import SpecialTokens


@dataclass(frozen=True)
class Way:
    """How texts are made."""

    name: str
    ours: bool
    off: str = ""
    """The optimisation that is switched off."""
    prompt_cache: int | None = None
    """Approximate: prompts anew in every so many-th iteration alone."""
    compiled: bool = False
    """Whether the network is compiled, at the first of the runs."""


class LikeThePrompt(nn.Module):
    """A length predictor that prefers lengths near the prompt's."""

    def forward(self, feature_BLH: Tensor, valid_BL: Tensor) -> Tensor:
        """Logits of lengths 1 to 100, best where the answer is as long as the prompt."""
        length_C = torch.arange(1, 101, device=valid_BL.device)
        return -((length_C - (valid_BL.sum(dim=1, keepdim=True) - 2)).abs() * 0.5 + length_C * 1e-3)


def random_model(shape: str, device: str, attention: Any) -> GenerativeModel:
    """Random weights, larger than at the beginning of training: logits that differ."""
    network = network_of(shape, device).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    size = SHAPES[shape][1]["vocab_size"]
    vocabulary = {f"w{token}": token for token in range(size)}
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD, "mask_token": MASK}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="w3")), unk_token="w3",
        **{name: f"w{token}" for name, token in special.items()},
    )  # fmt: skip
    backbone = Backbone(network)
    backbone.attention, backbone.end_token_id = attention, END
    found = SpecialTokens(begin=BEGIN, end=END, pad=PAD, mask=MASK)
    return GenerativeModel(backbone, tokenizer, found, "diffusion", LikeThePrompt())  # type: ignore[arg-type]


@torch.inference_mode()
def plain(
    model: GenerativeModel, prompt_ids: list[list[int]], settings: GenerationSettings
) -> list[str]:
    """The usual way."""
    special, backbone = model.special, model.backbone
    assert model.length_predictor is not None
    canvases: list[tuple[int, int, float]] = []
    for batch in batches_of_like_length(list(map(len, prompt_ids)), settings.batch_tokens):
        tokens_BL, valid_BL = pad([prompt_ids[i] for i in batch], model)
        response_BL = torch.zeros_like(valid_BL)
        feature_BLH = backbone.hidden(tokens_BL, valid_BL, response_BL=response_BL)
        logits_BC = model.length_predictor(feature_BLH, valid_BL).float()
        length_BK = top_lengths(logits_BC, settings.length_beam)
        log_p_BK = logits_BC.log_softmax(-1).gather(1, length_BK - 1)
        for index, lengths, log_p in zip(batch, length_BK.tolist(), log_p_BK.tolist(), strict=True):
            canvases += [(index, *choice) for choice in zip(lengths, log_p, strict=True)]
    canvases.sort(key=lambda canvas: canvas[0])
    rows = [prompt_ids[i] + [special.mask] * n + [special.end] for i, n, _ in canvases]
    found: dict[int, Candidate] = {}
    for batch in batches_of_like_length(list(map(len, rows)), settings.batch_tokens):
        tokens, log_p = _plain_batch(model, [rows[i] for i in batch], settings)
        for place, i in enumerate(batch):
            prompt, length, length_log_p = canvases[i]
            start = len(prompt_ids[prompt])
            found[i] = Candidate(
                prompt, tokens[place][start : start + length], log_p[place], length_log_p
            )

    def decode(rows: list[list[int]]) -> list[str]:
        return model.tokenizer.batch_decode(rows, skip_special_tokens=True)

    best = best_of_each_prompt([found[i] for i in range(len(rows))], settings.rerank, decode)
    texts = decode([best[prompt][0].tokens for prompt in range(len(prompt_ids))])
    return [text.strip() for text in texts]


def _plain_batch(
    model: GenerativeModel, rows: list[list[int]], settings: GenerationSettings
) -> tuple[list[list[int]], list[float]]:
    """Tokens of whole rows, and the sum of their log-probabilities."""
    tokens_BL, valid_BL = pad(rows, model)
    slot_BL = tokens_BL == model.special.mask
    zero_BL = torch.zeros(slot_BL.shape, device=model.device)
    canvas = Canvas(tokens_BL, slot_BL, slot_BL, zero_BL, zero_BL)
    sampler, backbone = settings.parts(), model.backbone
    forbidden, iterations = model.forbidden_ids, settings.num_iterations
    response_BL = response_of(tokens_BL, valid_BL, model.special.end)
    lengths = slot_BL.sum(dim=1).tolist()
    counts = noise_table(sampler.schedule, lengths, iterations)
    rate_MB1, set_MB1 = rate_tables(sampler.schedule, lengths, iterations)
    key = DrawKey(0, torch.zeros(len(rows), dtype=torch.int64, device=model.device))
    for number, count_B in enumerate(counts.to(model.device), start=1):
        if backbone.attention == "bidirectional":
            output = backbone.network(input_ids=canvas.tokens_BN, attention_mask=valid_BL.long())
            logits_BLV = output.logits
        else:
            states = backbone.hidden(canvas.tokens_BN, valid_BL, response_BL=response_BL)
            logits_BLV = backbone.logits(states)
        logits_BLV = logits_BLV.float()
        logits_BLV[..., forbidden] = -torch.inf
        best = logits_BLV.log_softmax(-1).max(-1)
        rate_B1, set_B1 = (table[number - 1].to(model.device) for table in (rate_MB1, set_MB1))
        step = Step(count_B, rate_B1, set_B1, Draws(key, number, slot_BL.cumsum(1)), sampler.limit)
        prediction = Prediction(best.indices, best.values, best.values, best.values)
        noise_BL, set_BL = sampler.rule.decide(canvas, prediction, step)
        canvas = loop.advance(canvas, prediction, noise_BL, set_BL, model.special.mask)
        if sampler.rule.stops_early and not canvas.noise_BN.any():
            break
    return canvas.tokens_BN.tolist(), canvas.log_probability_BN.sum(dim=1).tolist()


def _every_slot(canvas: Canvas, step: Step) -> Tensor:
    return canvas.slot_BN


def _all_rows(wanted_BN: Tensor) -> Wanted | None:
    slot_S = wanted_BN.flatten().nonzero().squeeze(1)
    return Wanted(slot_S, None, None)


SWITCHES: dict[str, Callable[[], list[Any]]] = {
    "packing": lambda: [patch.object(Backbone, "packs", lambda self, device: False)],
    "prompts computed once": lambda: [
        patch.object(Backbone, "caches_prompts", lambda self, device: False)
    ],
    "logits of read slots alone": lambda: [
        patch.dict(samplers.READS, dict.fromkeys(samplers.READS, _every_slot))
    ],
    "the last layer at read slots alone": lambda: [
        patch.object(Backbone, "cuts_last_layer", False)
    ],
    "a vocabulary in parts": lambda: [
        patch.object(slot_network.ContextNetwork, "likeliest", SlotNetwork.likeliest)
    ],
    "rows left out where nothing is read": lambda: [patch.object(loop, "look", _all_rows)],
    "predictions kept where nothing changed": lambda: [
        patch.object(samplers.Sampler, "repeats", False)
    ],
}
"""What can be switched off alone, and how."""


@contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Without one optimisation."""
    with ExitStack() as stack:
        for change in SWITCHES[name]() if name else []:
            stack.enter_context(change)
        yield


def measure(
    way: Way, model: GenerativeModel, prompt_ids: list[list[int]], settings: GenerationSettings,
    repeats: int,
) -> tuple[list[str], dict[str, float]]:  # fmt: skip
    """Texts, and sentences a second of the fastest of so many runs."""
    network, on_gpu = model.backbone.network, model.device.type == "cuda"
    network.set_attn_implementation(NAME if way.ours else "sdpa")
    seconds, processor, texts = [], [], []
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    if way.compiled:
        network.base_model.compile(dynamic=True)
    for _ in range(repeats):
        begun, processor_begun = time.perf_counter(), time.process_time()
        with switched_off(way.off):
            if way.ours:
                result = generate_by_diffusion(model, prompt_ids, None, settings)
                texts = [answer.text for answer in result.answers]
            else:
                texts = plain(model, prompt_ids, settings)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
        processor.append(time.process_time() - processor_begun)
    network.base_model._compiled_call_impl = None
    return texts, {
        "sentences_per_s": len(prompt_ids) / min(seconds),
        "sentences_per_processor_s": len(prompt_ids) / min(processor),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
    }


def same(texts: list[str], expected: list[str], references: list[str], exact: bool) -> str:
    """What is wrong with the texts; empty: nothing."""
    if exact:
        differ = sum(a != b for a, b in zip(texts, expected, strict=True))
        return f"{differ} of {len(texts)} texts differ" if differ else ""
    scores = [corpus_bleu(found, [references]).score for found in (texts, expected)]
    return "" if abs(scores[0] - scores[1]) <= 0.1 else f"BLEU {scores[0]:.2f}, not {scores[1]:.2f}"


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="quickstart")
    parser.add_argument("--model", metavar="DIR", help="a model directory in place of a shape")
    parser.add_argument("--input", metavar="F.jsonl", help="its texts: src and tgt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", choices=["bidirectional", "prefix_lm"],
                        help="of a shape's network")  # fmt: skip
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samplers", nargs="+", default=["rdm", "llada"])
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[2048, 8192],
                        help="of the usual way, which may choose; ours has the last")  # fmt: skip
    parser.add_argument("--prompt-tokens", type=int, help="cut a shape's prompts to so many")
    parser.add_argument("--compiled", action="store_true", help="measure compiled networks too")
    parser.add_argument("--prompt-cache", type=int, nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-switches", action="store_true", help="the two ways alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.samplers:
        sampler = samplers.get_sampler(name)
        if sampler.draws or sampler.score != "log_probability":
            parser.error(
                f"--samplers {name}: the usual way needs a sampler that ranks by log-probability "
                "and draw nothing: rdm, llada, fast-dllm and others"
            )
    dtype = options.dtype or ("bfloat16" if options.device == "cuda" else "float32")
    if options.model:
        model = open_model(options.model, device=options.device)
        lines = Path(options.input).read_text().splitlines()[: options.prompts]
        pairs = [json.loads(line) for line in lines]
        prompt_ids = encode_prompts(model.tokenizer, [pair["src"] for pair in pairs])
        references = [pair["tgt"] for pair in pairs]
    else:
        attention = options.attention or "bidirectional"
        model = random_model(options.shape, options.device, attention)
        rows = rows_of(options.prompts, SHAPES[options.shape][1]["vocab_size"])
        starts = rows.offsets[:-1]
        rows.tokens[starts + rows.prompt_lengths - 1] = END
        middles, ends = starts + rows.prompt_lengths, rows.offsets[1:] - 1
        prompt_ids, answer_ids = (
            [rows.tokens[a:b].tolist() for a, b in zip(first, last, strict=True)]
            for first, last in ((starts, middles), (middles, ends))
        )
        references = model.tokenizer.batch_decode(answer_ids)
        if options.prompt_tokens:
            prompt_ids = [[*ids[: options.prompt_tokens - 1], END] for ids in prompt_ids]
    model.backbone.to(getattr(torch, dtype))
    if model.length_predictor is not None:
        model.length_predictor.to(getattr(torch, dtype))
    measured = "sentences_per_s" if options.device == "cuda" else "sentences_per_processor_s"
    ours = Way("ours", ours=True)
    ways = [ours] + [replace(ours, name=f"ours, without {off}", off=off) for off in SWITCHES]
    if model.backbone.attention != "prefix_lm":
        ways = [way for way in ways if way.off != "prompts computed once"]
    cached = [
        replace(ours, name=f"ours, --prompt-cache {every} (approximate)", prompt_cache=every)
        for every in options.prompt_cache
    ]
    print_rows = []
    for sampler in options.samplers:
        settings = GenerationSettings(
            sampler=sampler, num_iterations=options.iterations, length_beam=options.beam,
            batch_tokens=options.batch_tokens[-1], length="predicted",
        )  # fmt: skip
        usual = [replace(settings, batch_tokens=tokens) for tokens in options.batch_tokens]
        plans = [(Way("usual", ours=False), made) for made in usual]
        plans += [(way, settings) for way in (ways[:1] if options.no_switches else ways)]
        if options.compiled:
            plans += [(replace(way, name=f"{way.name}, compiled", compiled=True), made)
                      for way, made in plans if not way.off]  # fmt: skip
        plans += [(way, replace(settings, prompt_cache=way.prompt_cache)) for way in cached]
        best: dict[str, dict[str, float]] = {}
        expected: list[str] = []
        for way, made in plans:
            try:
                texts, figures = measure(way, model, prompt_ids, made, options.repeats)
            except torch.OutOfMemoryError:
                print(json.dumps({"way": way.name, "out_of_memory": made.batch_tokens}))
                torch.cuda.empty_cache()
                continue
            expected = expected or texts
            line = {"shape": options.model or options.shape, "sampler": sampler, "way": way.name,
                    "batch_tokens": made.batch_tokens, **figures}  # fmt: skip
            if way.prompt_cache:
                line["same_texts"] = sum(a == b for a, b in zip(texts, expected, strict=True))
            if options.model:
                line["bleu"] = corpus_bleu(texts, [references]).score
            print(json.dumps(line), flush=True)
            wrong = same(texts, expected, references, exact=dtype == "float32")
            if wrong and not way.prompt_cache:
                print(f"{way.name} writes something else: {wrong}")
                return 1
            if way.name not in best or figures[measured] > best[way.name][measured]:
                best[way.name] = figures
        print_rows += [
            f"| {sampler} | {name} | {figures['sentences_per_s']:.2f} | "
            f"{figures['sentences_per_processor_s']:.2f} | "
            + (f"{figures['peak_gib']:.1f}" if options.device == "cuda" else "-")
            + f" | {best['ours'][measured] / figures[measured]:.2f}x |"
            for name, figures in best.items()
        ]
    print("| sampler | way | sentences/s | of processor time | peak GiB | ours is |")
    print("|---|---|---|---|---|---|", *print_rows, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
