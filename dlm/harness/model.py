"""The model type ``dlm`` of lm-evaluation-harness; importing this registers it."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, cast, get_args

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from dlm.data.rows.encoding import encode_responses
from dlm.errors import UserError, did_you_mean
from dlm.generation.likelihood import rolling_bounds
from dlm.generation.scored_rows import Bound, Estimator, LikelihoodSettings, check_estimable
from dlm.generation.settings import GenerationSettings
from dlm.harness.contexts import TooLong, as_pair, fitting
from dlm.harness.likelihoods import Pair, Scale, greedy, log_likelihood, pair_bounds
from dlm.harness.writing import Wanted, not_read, write
from dlm.recipe.locate import locate_model
from dlm.recipe.serving import (
    Asked,
    chosen_settings,
    open_located,
    refuse_what_a_length_says,
)
from dlm.training.quiet import quiet_libraries

log = logging.getLogger(__name__)

CHUNK = 256
"""Requests between two entries into the harness's cache of responses."""
_GENERATION = tuple(
    item.name for item in fields(GenerationSettings) if item.name not in ("seed", "batch_tokens")
)
_CHOICES = {"estimator": get_args(Estimator), "loglikelihood": get_args(Scale),
            "too_long": get_args(TooLong)}  # fmt: skip


@register_model("dlm")
class HarnessModel(LM):  # type: ignore[misc]
    """A run, a stage or an export of dlm.

    Its arguments (``--model_args path=DIR,num_iterations=20``) are the options of ``dlm generate``
    with underscores, and those below. An answer to a request is a function of the request and of
    these arguments: batches and the order of requests change nothing.
    """

    def __init__(
        self,
        path: str,
        *,
        estimator: str = "exactly_l",
        samples: int = 128,
        seed: int = 0,
        loglikelihood: str = "sum",
        is_greedy: bool = False,
        too_long: str = "error",
        batch_tokens: int = 8192,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        **generation: Any,
    ) -> None:
        """Open a model.

        Args:
            path: A run, a stage's directory or any model directory.
            estimator: exactly_l, bernoulli or chain_rule.
            samples: Draws for each likelihood (not for chain_rule).
            seed: Of the draws, and of samplers that draw.
            loglikelihood: ``sum``, or ``per_token``: divided by the tokens of the continuation.
            is_greedy: Find out whether a continuation is what the model would write, which takes
                ``num_iterations`` more network calls; else it counts as no.
            too_long: What becomes of a context that does not fit: error, or truncate its beginning.
            batch_tokens: Most tokens in a network call; changes no result.
            batch_size: Not read: batches are counted in tokens.
            max_batch_size: Not read.
            trust_remote_code: Run code that comes with the model.
            device: Default: a GPU if there is one; cuda without one is the CPU.
            generation: Options of ``dlm generate``; length=max_gen_toks decodes as many tokens as
                a task allows.

        Raises:
            UserError: An argument is unknown or has an impossible value, or the model cannot be
                opened.
        """
        super().__init__()
        if "steps" in generation:
            if "num_iterations" in generation:
                raise UserError("--model_args steps is num_iterations, which is given: remove one")
            generation["num_iterations"] = generation.pop("steps")
        _check(generation, estimator=estimator, loglikelihood=loglikelihood, too_long=too_long)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("the model type dlm runs in one process: start it without a launcher")
        if batch_size not in (None, 1, "1", "auto"):
            log.warning("batch_size=%s is not read: batches are counted in tokens, "
                        "batch_tokens=%s", batch_size, batch_tokens)  # fmt: skip
        self.path, self.scale = path, cast(Scale, loglikelihood)
        self.too_long = cast(TooLong, too_long)
        self.likelihood = LikelihoodSettings(
            cast(Estimator, estimator), samples, seed, batch_tokens=batch_tokens
        )
        quiet_libraries()
        located = locate_model(path)
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            device = None  # the harness's default, which its own models read like this
        self.model = open_located(located, device, trust_remote_code=trust_remote_code)
        self.fixed_length = generation.get("length") == "max_gen_toks"
        if self.fixed_length:
            generation = {**generation, "length": None}
        if self.model.kind == "diffusion":
            generation = {**generation, "seed": seed}
        asked = Asked.by_name(generation)
        if self.fixed_length:
            refuse_what_a_length_says(asked, "max_gen_toks")
        self.settings = chosen_settings(asked, located, self.model, references=False)
        if is_greedy and self.model.kind == "autoregressive":
            raise UserError(
                f"is_greedy: {path} is an autoregressive model, which answers by beam search and "
                "not by a sampler: remove it"
            )
        self.finds_greedy = is_greedy
        self.cut_contexts = 0
        self.standard_errors: list[float] = []
        self._said: set[str] = set()

    @property
    def tokenizer_name(self) -> str:
        """For the harness's cache of requests."""
        return self.path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's own template, of which the harness also keeps a record.

        Raises:
            UserError: It has none, or one of several is asked for.
        """
        if chat_template is False or chat_template is None:
            return None
        template: str | None = self.model.tokenizer.chat_template
        if template is None:
            raise UserError(
                f"--apply_chat_template: {self.path} was not trained on conversations (data.task "
                "chat): leave it out, and write in the task's doc_to_text what stood around a "
                "prompt in training"
            )
        if isinstance(chat_template, str):
            raise UserError(
                f"--apply_chat_template {chat_template}: {self.path} has one template, without a "
                "name: leave the name out"
            )
        return template

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as prompts were worded in training."""
        return str(self.model.tokenizer.apply_chat_template(
            chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
        ))  # fmt: skip

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(lower bound on log p(continuation | context, its length), is it greedy)."""
        found: list[tuple[float, bool]] = []
        for chunk in self._chunks(requests, "loglikelihood"):
            pairs = self._pairs(chunk)
            bounds = self._noted(pair_bounds(self.model, pairs, self.likelihood))
            same = greedy(self.model, pairs, self.settings) if self.finds_greedy else [False] * len(
                pairs)  # fmt: skip
            values = [
                (log_likelihood(bound, self.scale), is_greedy)
                for bound, is_greedy in zip(bounds, same, strict=True)
            ]
            found += self._kept("loglikelihood", chunk, values)
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Lower bound on log p(text | its length) of every text, in windows that fit the model."""
        found: list[float] = []
        for chunk in self._chunks(requests, "loglikelihood_rolling"):
            texts = [request.args[0] for request in chunk]
            ids = [_row_id(request, place) for place, request in enumerate(chunk)]
            bounds = self._noted(rolling_bounds(self.model, texts, self.likelihood, row_ids=ids))
            values = [log_likelihood(bound, "sum") for bound in bounds]
            found += self._kept("loglikelihood_rolling", chunk, values)
        return found

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answer to every context, without what follows a stop string."""
        found: list[str] = []
        asked: Counter[tuple[str, Wanted]] = Counter()
        for chunk in self._chunks(requests, "generate_until"):
            places = [_place(request) for request in chunk]
            wanted = []
            for request, place in zip(chunk, places, strict=True):
                wanted.append(Wanted.of(request.args[1], place))
                if unread := not_read(request.args[1]):
                    self._say(f"generation_kwargs: {', '.join(unread)} changes nothing here")
            if self.model.kind == "autoregressive" and any(how.temperature for how in wanted):
                self._say("an autoregressive model answers by beam search: nothing is drawn")
            prompts = [request.args[0].rstrip() for request in chunk]
            behind = [self._room(how) for how in wanted]
            prompts, cut = fitting(self.model, prompts, behind, places, self.too_long)
            self._count_cut(cut)
            texts = write(
                self.model, prompts, wanted, self.settings, fixed_length=self.fixed_length,
                asked=asked,
            )  # fmt: skip
            found += self._kept("generate_until", chunk, texts)
        return found

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results: every setting that decides them."""
        likelihood = asdict(self.likelihood)
        if self.standard_errors:
            largest = max(self.standard_errors)
            likelihood["largest_standard_error_nats"] = largest
        length = {"length": "max_gen_toks"} if self.fixed_length else {}
        return {
            "dlm_likelihood": likelihood | {"loglikelihood": self.scale},
            "dlm_generation": self.settings.shown(self.model.kind) | length,
            "dlm_cut_contexts": self.cut_contexts,
        }

    def _pairs(self, chunk: Sequence[Instance]) -> list[Pair]:
        texts = [as_pair(*request.args) for request in chunk]
        tokens = encode_responses(self.model.tokenizer, [response for _, response in texts])
        places = [_place(request) for request in chunk]
        for response, place in zip(tokens, places, strict=True):
            if not response:
                raise UserError(f"{place}: the continuation is empty, there is nothing to score")
        with_prompt = [i for i, (prompt, _) in enumerate(texts) if prompt]
        prompts, cut = fitting(
            self.model, [texts[i][0] for i in with_prompt],
            [len(tokens[i]) + 1 for i in with_prompt], [places[i] for i in with_prompt],
            self.too_long,
        )  # fmt: skip
        self._count_cut(cut)
        fitted = dict(zip(with_prompt, prompts, strict=True))
        return [
            Pair(fitted.get(i, ""), response, _row_id(request, i))
            for i, ((_, response), request) in enumerate(zip(texts, chunk, strict=True))
        ]

    def _room(self, wanted: Wanted) -> int:
        """Tokens behind a prompt: all that a fixed length or a canvas takes; of a length that is
        predicted at least one, and half of the positions where prompts may be cut for it."""
        if self.settings.length == "canvas" and not self.fixed_length:
            return self.settings.canvas_length or 1
        if self.fixed_length:
            return wanted.max_tokens + 1
        if self.too_long != "truncate":
            return 2
        backbone = self.model.backbone
        most: int = min(backbone.max_length // 2, backbone.room_behind(1))
        return min(wanted.max_tokens + 1, most)

    def _chunks(self, requests: list[Instance], name: str) -> Iterator[list[Instance]]:
        if name != "generate_until" and requests:
            check_estimable(self.model, self.likelihood)
        with tqdm(total=len(requests), desc=f"dlm {name}", disable=None) as progress:
            for first in range(0, len(requests), CHUNK):
                chunk = requests[first : first + CHUNK]
                yield chunk
                progress.update(len(chunk))

    def _kept(self, name: str, chunk: Sequence[Instance], values: list[Any]) -> list[Any]:
        """Into the harness's cache at once: what is done survives an interruption."""
        for request, value in zip(chunk, values, strict=True):
            self.cache_hook.add_partial(name, request.args, value)
        return values

    def _noted(self, bounds: list[Bound]) -> list[Bound]:
        self.standard_errors += [bound.nats.standard_error for bound in bounds]
        return bounds

    def _count_cut(self, cut: int) -> None:
        self.cut_contexts += cut
        if cut:
            self._say("contexts that do not fit lose their beginning (too_long=truncate); "
                      "dlm_cut_contexts in the results counts them")  # fmt: skip

    def _say(self, text: str) -> None:
        """Once."""
        if text not in self._said:
            self._said.add(text)
            log.warning(text)


def _check(generation: dict[str, Any], **chosen: str) -> None:
    known = ("path", "samples", "is_greedy", "batch_tokens", *_CHOICES, *_GENERATION, "steps")
    for name in generation:
        if name not in _GENERATION:
            hint = did_you_mean(name, known)
            raise UserError(f"--model_args {name} is not known{hint} (known: {', '.join(known)})")
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise UserError(
                f"--model_args {name}={value}: choose one of {', '.join(_CHOICES[name])}"
            )
    lengths = (None, "predicted", "canvas", "max_gen_toks")
    if generation.get("length") not in lengths:
        raise UserError(
            f"--model_args length={generation['length']}: choose one of "
            f"{', '.join(filter(None, lengths))}"
        )


def _row_id(request: Instance, place: int) -> int:
    """The number of its document, which its choices share (as in ``dlm evaluate``)."""
    return place if request.doc_id is None else int(request.doc_id)


def _place(request: Instance) -> str:
    return f"task {request.task_name}, document {request.doc_id}"
