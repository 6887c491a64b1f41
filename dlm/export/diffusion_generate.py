"""Write text with the diffusion language model beside this file; torch and transformers alone.

    python diffusion_generate.py "a prompt" ["another"] [--num-iterations N] [--length-beam K]

Behind the prompt stand as many masks as the answer has tokens. In each iteration the network
predicts them all, the surest stay and the others are masked again (arXiv 2302.05737, 1904.09324). A
length predictor reads the prompt; its likeliest lengths are decoded, the surest answer is given
(2308.12219). Settings are those of dlm.json, options win. Tensors: B candidate lengths, L tokens of
a row, N masks, V vocabulary, H hidden size, C lengths, F tokens.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer

SAMPLER = re.compile(r"(?:(reparam-(?:un)?cond)-deterministic|(frozen|cmlm))-(linear|cosine|llada)")
ALIASES = {"rdm": "reparam-uncond-deterministic-cosine", "mask-predict": "cmlm-linear",
           "llada": "frozen-llada"}  # fmt: skip
NOT_READ = ("temperature", "top_k", "top_p", "score", "threshold", "entropy_bound", "guidance",
            "block_length", "end_last", "min_length", "end_penalty")  # fmt: skip
BESIDE_HAN = "[\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]"
BESIDE_HAN = f"(?<={BESIDE_HAN}) +| +(?={BESIDE_HAN})"
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text",
                    "roberta-prelayernorm", "esm", "mpnet")  # fmt: skip


def stop(reason: str) -> NoReturn:
    raise SystemExit(f"error: {reason}")


def checked(directory: Path) -> dict[str, str]:
    """The files' hashes, if they are those of SHA256SUMS. A hash is remembered beside the
    directory, as dlm does, and counts while the file's size and times stay the same."""
    if not (listed := directory / "SHA256SUMS").exists():
        print(f"{directory} has no SHA256SUMS: its files are not checked", file=sys.stderr)
        return {}
    place, known, sums = directory.parent / f".{directory.name}.sums.json", {}, {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(place.read_bytes()))
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if not line.startswith("#")]
        wanted = {Path(name.lstrip("*")).as_posix(): digest for digest, name in pairs}
        damaged = lines[0].startswith("# ") and lines[0] != f"# {len(wanted)} files"
    except (OSError, ValueError, IndexError):
        damaged = True
    if damaged:
        stop(f"{listed} is damaged: take the directory from where it was written")
    wanted.pop(listed.name, None)
    for name, digest in wanted.items():
        if not (path := directory / name).is_file():
            stop(f"{path} is missing: take the directory from where it was written")
        status = [(s := path.stat()).st_size, s.st_mtime_ns, s.st_ctime_ns]
        before = known.get(name, ("", ""))
        sums[name] = before[1] if before[0] == status else ""
        if not sums[name]:
            with path.open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time() - max(status[1:]) / 1e9 > 1:  # else it may change in the same tick
                known[name] = [status, sums[name]]
        if sums[name] != digest:
            stop(f"{path} has other contents than when it was written: take it from there, or if "
                 "you meant to change it, write its line of SHA256SUMS anew with sha256sum"
                 )  # fmt: skip
    with suppress(OSError):  # a place that cannot be written to is read again next time
        place.write_text(json.dumps(known))
    return sums


def length_predictor(
    hidden_size: int, max_length: int, num_heads: int, dropout: float, relative: bool = False
) -> Any:
    """encoder: features of the prompt [1, L, H]; mlp: their mean -> logits of lengths [1, C];
    differences: their mean -> logits of lengths less the prompt's, -C..C."""
    encoder = nn.TransformerEncoderLayer(
        hidden_size, num_heads, 4 * hidden_size, dropout, "gelu", batch_first=True, norm_first=True
    )
    mlp = nn.Sequential(
        nn.LayerNorm(hidden_size), nn.Linear(hidden_size, hidden_size), nn.GELU(),
        nn.Dropout(dropout), nn.Linear(hidden_size, max_length),
    )  # fmt: skip
    parts = {"encoder": encoder, "mlp": mlp}
    if relative:
        parts["differences"] = nn.Linear(hidden_size, 2 * max_length + 1)
    return nn.ModuleDict(parts)


class DiffusionModel:
    """The network, its tokenizer, and its length predictor if it has one."""

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        directory = directory.resolve()
        sums = checked(directory)
        said = json.loads((directory / "dlm.json").read_text(encoding="utf-8"))
        if said["format"] > 2:
            stop(f"dlm.json has format {said['format']}: use the script of that export")
        if said["kind"] != "diffusion" or said["shifted"]:
            stop("this model does not predict a mask at its own place: use `dlm generate`")
        network = AutoModelForMaskedLM.from_pretrained(
            directory, dtype=torch.float32, trust_remote_code=False
        )
        self.prefix_lm = said["attention"] == "prefix_lm"
        if self.prefix_lm and "sliding_attention" in (getattr(network.config, "layer_types", "")):
            stop("prefix_lm with sliding-window layers is not read here: use `dlm generate`")
        own_masks = network.config._attn_implementation == "eager"
        if self.prefix_lm and (own_masks or network.config.model_type == "esm"):
            stop("prefix_lm of this type of model is not read here: use `dlm generate`")
        self.network, self.device = network.eval().to(device), device
        self.settings: Any = said.get("generation") or {}
        self.canvas_length: int | None = said["canvas_length"]
        self.text_form: Any = said.get("text") or {"between": "decoded", "ends": "cut"}
        self.tokenizer = t = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        self.end = t.eos_token_id if t.sep_token_id is None else t.sep_token_id
        begins = (t.cls_token_id, t.bos_token_id, self.end)
        self.begin: int = next(token for token in begins if token is not None)
        self.mask, self.pad, config = t.mask_token_id, t.pad_token_id, network.config
        own = (self.begin, self.end, self.mask)
        self.never_text = {*own, *t.all_special_ids} - ({t.unk_token_id} - {*own})
        # Neither special tokens nor rows of the output layer without a token are generated.
        self.forbidden = [*t.all_special_ids, *range(len(t), config.vocab_size)]
        self.offset = (config.pad_token_id or 0) + 1
        self.offset *= config.model_type in OFFSET_POSITIONS
        self.max_length: int = config.max_position_embeddings - self.offset
        # Where answers stand: behind the prompt, or from one position on.
        where: Any = said.get("response_positions") or {"start": None, "token_type": False}
        self.start: int | None = where["start"]
        self.token_type: bool = where["token_type"]
        self.lengths: Any = None
        if (beside := directory / "length_predictor.json").exists():
            sizes = json.loads(beside.read_text(encoding="utf-8"))
            files = sorted(file.name for file in directory.glob("model*.safetensors"))
            if not sums:
                sums = {f: hashlib.sha256((directory / f).read_bytes()).hexdigest() for f in files}
            hashes = "".join(sums[file] for file in files)
            if sizes.pop("backbone") != hashlib.sha256(hashes.encode()).hexdigest():
                stop("length_predictor.safetensors belongs to other weights: train it anew")
            self.lengths = length_predictor(**sizes).eval().to(device)
            self.lengths.load_state_dict(load_file(beside.with_suffix(".safetensors")))

    def text(self, ids: list[int]) -> str:
        """The text of tokens: some tokenizers put blanks between them that no text has."""
        t, between = self.tokenizer, self.text_form["between"]
        text = str(t.decode(ids, skip_special_tokens=True))
        if between == "joined":
            text = "".join(t.convert_ids_to_tokens(ids, skip_special_tokens=True))
        elif between != "decoded":
            text = (re.sub(BESIDE_HAN, "", text) if between == "none_at_han"
                    else text.replace(" ", ""))  # fmt: skip
        return text if self.text_form["ends"] == "kept" else text.strip()

    def room(self, prompt: int) -> int:
        """Tokens that fit behind a prompt of this many, the end token included."""
        return self.max_length - (prompt if self.start is None else self.start)

    def candidate_lengths(self, prompt: list[int], beam: int) -> list[tuple[int, float]]:
        """The likeliest lengths that fit behind the prompt, with their log-probabilities."""
        if self.lengths is None:
            stop("this model has no length predictor: give --length N, the answer's tokens")
        tokens_1L = torch.tensor([prompt], device=self.device)
        states = self.network.base_model(tokens_1L, attention_mask=torch.ones_like(tokens_1L))
        mean_1H = self.lengths["encoder"](states.last_hidden_state).mean(dim=1)
        logits_C = self.lengths["mlp"](mean_1H)[0].float()
        if "differences" in self.lengths:
            most = len(logits_C)
            place_C = torch.arange(1, most + 1, device=self.device) - len(prompt)
            place_C = place_C.clamp(-most, most) + most
            logits_C = logits_C + self.lengths["differences"](mean_1H)[0][place_C]
        room, log_p_C = self.room(len(prompt)) - 1, logits_C.log_softmax(-1)
        found: dict[int, float] = {}
        for place in logits_C.topk(min(beam, len(logits_C))).indices.tolist():
            found.setdefault(min(place + 1, room), float(log_p_C[place]))
        return list(found.items())

    def logits(self, tokens_BL: Tensor, valid_BL: Tensor, prompt_length: int) -> Tensor:
        """Logits of every token [B, L, V]; under prefix_lm the prompt does not see the answer."""
        mask, column_L = valid_BL.long(), torch.arange(tokens_BL.shape[1], device=self.device)
        answer_L, more = column_L >= prompt_length, {}
        if self.start is not None:
            shift = self.offset + answer_L * (self.start - prompt_length)
            more["position_ids"] = (column_L + shift).expand_as(tokens_BL)
        if self.token_type:
            more["token_type_ids"] = answer_L.long().expand_as(tokens_BL)
        if self.prefix_lm:
            answer_BL = valid_BL & answer_L
            within_BLL = answer_BL[:, None, :] & answer_BL[:, :, None]
            mask = ((valid_BL & ~answer_L)[:, None, :] | within_BLL)[:, None]
        logits: Tensor = self.network(input_ids=tokens_BL, attention_mask=mask, **more).logits
        return logits


def denoise(
    model: DiffusionModel, prompt: list[int], lengths: list[int], *, sampler: str,
    iterations: int | None, ends_itself: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Tokens in place of this many masks, a row a length, and their log-probabilities when set.
    iterations None: each row has as many as masks."""
    if not (parts := SAMPLER.fullmatch(ALIASES.get(sampler, sampler))):
        stop(f"sampler {sampler} is not known to this script: use `dlm generate`")
    rule, schedule = parts[1] or parts[2], parts[3]
    first, most, end = len(prompt), max(lengths), [] if ends_itself else [model.end]
    rows = [prompt + [model.mask] * n + end + [model.pad] * (most - n) for n in lengths]
    tokens_BL = torch.tensor(rows, device=model.device)
    length_B1 = torch.tensor(lengths, dtype=torch.float64, device=model.device)[:, None]
    column_L = torch.arange(tokens_BL.shape[1], device=model.device)
    valid_BL = column_L < first + length_B1 + len(end)
    slot_BN = column_L[:most] < length_B1
    forbidden = [token for token in model.forbidden if not (ends_itself and token == model.end)]
    forbidden_F = torch.tensor(forbidden, device=model.device)
    noise_BN, set_p_BN = slot_BN, torch.zeros(slot_BN.shape, device=model.device)
    canvas_BN = tokens_BL[:, first : first + most]  # the answers
    times_B1 = length_B1 if iterations is None else torch.full_like(length_B1, iterations)
    for iteration in range(1, (iterations or most) + 1):
        logits_BNV = model.logits(tokens_BL, valid_BL, first)[:, first : first + most]
        log_p_BNV = logits_BNV.float().index_fill(-1, forbidden_F, -torch.inf).log_softmax(-1)
        log_p_BN, choice_BN = log_p_BNV.max(-1)
        left_B1 = length_B1 * (times_B1 - iteration) // times_B1  # masks after it
        if schedule == "llada":  # equal parts, and one more in the first iterations
            extra_B1 = (length_B1 % times_B1).clamp(max=iteration)
            left_B1 = length_B1 - length_B1 // times_B1 * iteration - extra_B1
        if schedule == "cosine" and iterations and iteration < iterations:
            third = 3 * iteration == 2 * iterations  # where the cosine is 1/2, to the last bit
            rate = 0.5 if third else math.cos(math.pi * iteration / (2 * iterations))
            left_B1 = (length_B1 * rate).floor()
        rivals_BN = noise_BN if rule == "frozen" else slot_BN
        score_BN = torch.where(noise_BN, log_p_BN, set_p_BN) if rule == "cmlm" else log_p_BN
        order_BN = score_BN.masked_fill(~rivals_BN, torch.inf).argsort(dim=1, stable=True)
        low_BN = next_BN = (order_BN.argsort(dim=1) < left_B1) & rivals_BN
        if rule == "reparam-cond":  # a token is masked again only if the network doubts it more
            doubted_BN = (choice_BN == canvas_BN) & (log_p_BN < set_p_BN)
            next_BN = low_BN & (noise_BN | doubted_BN)
        new_BN = noise_BN & ~low_BN
        canvas_BN = torch.where(new_BN, choice_BN, canvas_BN).masked_fill(next_BN, model.mask)
        set_p_BN = torch.where(new_BN, log_p_BN, set_p_BN).masked_fill(next_BN, 0.0)
        tokens_BL[:, first : first + most] = canvas_BN
        noise_BN = next_BN
    return canvas_BN, set_p_BN


@torch.inference_mode()
def generate(model: DiffusionModel, prompt: str, length: int | None = None, **given: Any) -> str:
    """The answer to a prompt; ``given`` replaces settings of dlm.json where it is not None."""
    usual = {"sampler": "rdm", "num_iterations": None, "length_beam": 5, "rerank": "mean"}
    given = {name: x for name, x in given.items() if x is not None}
    said = usual | model.settings
    if given.get("sampler", said["sampler"]) != said["sampler"]:
        said["num_iterations"] = None  # they were those of another sampler
    settings = said | given
    unread = [name for name in NOT_READ if settings.get(name) is not None]
    if unread := unread + ["rerank mbr"] * (settings["rerank"] == "mbr"):
        stop(f"{', '.join(unread)}: not read by this script, use `dlm generate`")
    own = None if settings["sampler"] == "llada" else 10
    how = {"sampler": settings["sampler"], "iterations": settings["num_iterations"] or own}
    canvas: int = settings.get("canvas_length") or model.canvas_length or 0
    source = settings.get("length") or ("predicted" if model.lengths else "canvas")
    on_canvas = bool(canvas) and source == "canvas" and length is None
    if not prompt.strip():
        stop("a prompt is empty: give it some text")
    # Text is text: a "<mask>" in it is no mask.
    t = model.tokenizer  # one written in Python may find words by what splitting turns off
    split = t.is_fast or any(token in prompt for token in t.all_special_tokens)
    text = t(prompt, add_special_tokens=False, split_special_tokens=split)
    if not set(text["input_ids"]).isdisjoint(model.never_text):
        stop("the prompt spells a special token of the tokenizer: use `dlm generate`")
    ids = [model.begin, *text["input_ids"], model.end]
    too_long = len(ids) > (model.start or len(ids))
    if too_long or (canvas if on_canvas else (length or 1) + 1) > model.room(len(ids)):
        first = f", the first {model.start} of which are the prompt's" if model.start else ""
        stop(f"prompt and answer do not fit the model's {model.max_length} positions{first}")
    if on_canvas:  # one row, which ends itself
        canvas_1N = denoise(model, ids, [canvas], ends_itself=True, **how)[0]
        best = [*canvas_1N[0].tolist(), model.end]
        best = best[: best.index(model.end)]
    else:
        beam = settings["length_beam"]
        lengths = [(length, 0.0)] if length else model.candidate_lengths(ids, beam)
        tokens_BN, log_p_BN = denoise(model, ids, [n for n, _ in lengths], **how)
        joint = settings["rerank"] == "joint"
        totals = zip(log_p_BN.sum(dim=1).tolist(), lengths, strict=True)
        scores = [total + log_p if joint else total / n for total, (n, log_p) in totals]
        place = max(range(len(scores)), key=scores.__getitem__)
        best = tokens_BN[place, : lengths[place][0]].tolist()
    return model.text(best)


def at_least_one(text: str) -> int:
    return int(text) if int(text) > 0 else stop(f"numbers must be at least 1, not {text}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answer prompts with the model beside this file.")
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    parser.add_argument("--num-iterations", "--steps", type=at_least_one, help="iterations")
    parser.add_argument("--sampler", help=f"{', '.join(ALIASES)}, reparam-cond-...")
    parser.add_argument("--length-beam", type=at_least_one, help="lengths decoded and reranked")
    parser.add_argument("--length", type=at_least_one, help="tokens of the answer, if you know")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = vars(parser.parse_args())
    prompts, device = options.pop("prompts"), options.pop("device")
    model = DiffusionModel(Path(__file__).parent, device)
    print("\n".join(generate(model, prompt, **options) for prompt in prompts))
