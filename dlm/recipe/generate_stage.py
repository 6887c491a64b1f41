"""Stage kind ``generate``: a model answers prompts, and its answers are rows for later stages."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dlm.callbacks.preemption import Deadline
from dlm.data.prompts import Example
from dlm.data.rows.encoding import unknown_tokens
from dlm.data.sources import BadRows, file_sha256
from dlm.distributed.joining import own_device
from dlm.distributed.share import Share
from dlm.errors import Preempted, UserError
from dlm.evaluation.progress import Progress
from dlm.generation.generate import generate
from dlm.generation.generated import Generated
from dlm.generation.lengths import longest_prompt, settled
from dlm.generation.model import GenerativeModel, open_model
from dlm.generation.settings import GenerationSettings
from dlm.recipe.console import duration, say
from dlm.recipe.manifest import read_manifest
from dlm.recipe.shared_stage import carry_out_shared
from dlm.recipe.written_rows import RowsOnDisk, Written
from dlm.training.job import StageJob
from dlm.training.sources import build_bad_rows, build_examples
from dlm.training.train import build_deadline

CHUNK_PROMPTS = 2048
"""So many prompts are batched by length together: of more, batches are hardly tighter."""
SAY_EVERY_S = 30.0
_NO_RESPONSE = (
    "it has no response, whose length generation.length=oracle takes: give it one, or set another "
    "generation.length"
)


def generate_stage(job: StageJob) -> dict[str, Any]:
    """Write export/rows.jsonl: for every prompt its fields, ``inputs``, ``targets``, ``score``.

    Called on every rank: the ranks share the batches, rank 0 writes and speaks.
    """
    return carry_out_shared(job, lambda job, share: Writing(job, share).carry_out())


@dataclass(frozen=True)
class _Survey:
    """What the prompts are, before any is answered."""

    prompts: int
    skipped: int
    """Bad rows that are left out."""
    left_out: int
    """Rows of held-out values."""
    unknown_tokens: int
    """Tokens of prompts that the model does not know."""


class Writing:
    """One attempt at one stage."""

    def __init__(self, job: StageJob, share: Share) -> None:
        self.job, self.share = job, share
        config = job.config
        place = config.init_from or ""
        device = own_device(cpu=config.hardware.accelerator == "cpu")
        self.model = open_model(
            job.exports.get(place, place), device=device,
            trust_remote_code=config.model.trust_remote_code,
        )  # fmt: skip
        self.settings = _fitting(self.model, config.generation)
        self.longest = longest_prompt(self.model, self.settings)
        self.examples = build_examples(config, job.exports)[0]

    def carry_out(self) -> dict[str, Any]:
        """Every chunk that is not written yet; the metrics of the manifest."""
        survey = self.share.of_first(self._survey)
        disk = RowsOnDisk(self.job.directory, survey.prompts)
        written = self.share.of_first(disk.resumed)
        if written.prompts and self.share.first:
            say(f"{self.job.name}: {written.prompts:,} of {survey.prompts:,} prompts are there")
        deadline = build_deadline(self.job.config.hardware)
        meter = _Meter(self.job.name, disk, written, deadline)
        prompts = islice(self._prompts(), written.prompts, None)
        while chunk := list(islice(prompts, CHUNK_PROMPTS)):
            written = self._write(disk, written, chunk, meter)
        metrics = self._metrics(survey, written)
        if not self.share.first:
            return metrics
        return metrics | {"sha256": file_sha256(disk.finish())} | self._origin()

    def _write(
        self, disk: RowsOnDisk, written: Written, chunk: list[Example], meter: "_Meter"
    ) -> Written:
        begin = time.perf_counter()
        kept = [e for e, tokens in zip(chunk, self._lengths(chunk), strict=True)
                if tokens <= self.longest]  # fmt: skip
        progress = Progress(
            self.share, disk.batches, _key(self.job, self.settings, kept),
            done=meter.within(written, len(chunk), self._last_call), quiet=True,
        )  # fmt: skip
        generation = generate(
            self.model, [e.prompt for e in kept], self.settings,
            references=[e.response for e in kept], share=progress,
        )  # fmt: skip
        answered = list(zip(kept, generation.answers, strict=True))
        rows = [_row(example, answer) for example, answer in answered if answer.text]
        counts = {
            "rows": len(rows), "dropped_rows": len(chunk) - len(kept),
            "empty_answers": len(kept) - len(rows), "without_end": generation.without_end,
            "network_calls": generation.network_calls, "score": sum(row["score"] for row in rows),
        }  # fmt: skip
        seconds = progress.seconds_before + time.perf_counter() - begin
        after = Written(written.prompts + len(chunk), 0, written.seconds + seconds, counts)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        written = self.share.of_first(lambda: disk.add(written, lines, after))
        if self.share.first:
            meter.say(written.prompts)
        return written

    @property
    def _last_call(self) -> int:
        """The number of the call that decodes: lengths are predicted before it."""
        predicts = self.model.kind == "diffusion" and self.settings.length == "predicted"
        return int(predicts)

    def _answerable(self, example: Example) -> bool:
        return bool(example.response) or self.settings.length != "oracle"

    def _prompts(self) -> Iterator[Example]:
        """All that can be answered; the survey has refused or counted the rest."""
        found = self.examples.stream(Counter(), bad_rows=BadRows("skip"))
        return (example for _, example in found if self._answerable(example))

    def _survey(self) -> _Survey:
        """Read every prompt once, so that none is refused hours later."""
        bad_rows = build_bad_rows(self.job)
        counts: Counter[str] = Counter()
        count = unknown = too_long = 0
        first = ""
        found = (example for _, example in self.examples.stream(counts, bad_rows=bad_rows))
        while block := list(islice(found, CHUNK_PROMPTS)):
            bad = [example for example in block if not self._answerable(example)]
            for example in bad:
                bad_rows.bad(example.place, _NO_RESPONSE)
            block = [example for example in block if self._answerable(example)]
            count += len(block)
            ids = self.model.heads([example.prompt for example in block])
            unknown += unknown_tokens(self.model.tokenizer, ids)
            for example, row in zip(block, ids, strict=True):
                if len(row) > self.longest:
                    too_long += 1
                    first = first or f"{example.place}: a prompt of {len(row)} tokens"
        bad_rows.finish()
        if too_long and (self.job.config.data.too_long == "error" or too_long == count):
            canvas = self.settings.length == "canvas" and self.model.kind == "diffusion"
            behind = f" and a canvas of {self.settings.canvas_length}" if canvas else ""
            raise UserError(
                f"{first}{behind} leaves no room for an answer in "
                f"{self.model.backbone.room_text}, and so do {too_long - 1} others of "
                f"{count}: shorten or remove such rows, or leave them out (data.too_long=drop)"
            )
        for note in [bad_rows.note()] if bad_rows.count else []:
            say(f"{self.job.name}: {note}")
        return _Survey(count, bad_rows.count, counts["left_out_rows"], unknown)

    def _lengths(self, chunk: list[Example]) -> list[int]:
        ids = self.model.heads([example.prompt for example in chunk])
        return list(map(len, ids))

    def _metrics(self, survey: _Survey, written: Written) -> dict[str, Any]:
        counts = {name: value for name, value in written.counts.items() if name != "score"}
        rows = int(counts.pop("rows", 0))
        if not rows:
            raise UserError(
                f"stage {self.job.name}: every answer is empty, so there is no row to hand on: "
                f"look at what {self.job.config.init_from} generates (dlm generate)"
            )
        sometimes = {
            **counts, "skipped_rows": survey.skipped, "left_out_rows": survey.left_out,
            "unknown_tokens": survey.unknown_tokens,
        }  # fmt: skip
        return {
            "rows": rows,
            "prompts": survey.prompts,
            "rows_per_second": round(rows / max(1e-9, written.seconds), 2),
            "mean_score": round(written.counts["score"] / rows, 4),
            **{name: value for name, value in sometimes.items() if value},
        }

    def _origin(self) -> dict[str, Any]:
        """The model that wrote, and how."""
        name = self.job.config.init_from or ""
        model: dict[str, Any] = {"name": name if name.count("/") == 1 else Path(name).name}
        if name in self.job.exports:
            manifest = read_manifest(self.job.exports[name].parent)
            model = {"stage": name, "fingerprint": manifest and manifest.identity.fingerprint}
        settings = {"kind": self.model.kind, **self.settings.shown(self.model.kind)}
        return {"model": model, "settings": settings}


class _Meter:
    """Says how far the stage is, not oftener than every half minute, and ends it in time."""

    def __init__(
        self, name: str, disk: RowsOnDisk, written: Written, deadline: Deadline | None
    ) -> None:
        self.name, self.disk, self.first, self.deadline = name, disk, written.prompts, deadline
        self.begin = self.said = time.monotonic()

    def within(self, written: Written, chunk: int, last_call: int) -> Any:
        """What a chunk's progress calls with the batches that are done."""

        def done(call: int, batches: int, of: int) -> None:
            share = batches / of if call == last_call else 0.0
            shown = written.prompts + int(share * chunk)
            if self.say(shown):
                self.disk.note(written, shown)
            if self.deadline is not None and self.deadline.is_near(0.0):
                self.disk.note(written, shown)
                raise Preempted(
                    f"stage {self.name} has used up hardware.max_time "
                    f"({self.deadline.limit_s:g} s) and stops after {shown:,} of "
                    f"{self.disk.total:,} prompts, which are kept: run the same command again"
                )

        return done

    def say(self, shown: int) -> bool:
        """A line with the rate and the time left; whether it was time for one."""
        now = time.monotonic()
        if now - self.said < SAY_EVERY_S:
            return False
        self.said = now
        rate = (shown - self.first) / (now - self.begin)
        left = f", {duration((self.disk.total - shown) / rate)} left" if rate else ""
        text = f"{shown:,} of {self.disk.total:,} prompts · {rate:.1f} prompts/s"
        say(f"{self.name} {text}{left}", stderr=True)
        return True


def _fitting(model: GenerativeModel, settings: GenerationSettings) -> GenerationSettings:
    """The settings with what the model decides.

    Raises:
        UserError: They cannot be used with the model.
    """
    if model.kind == "diffusion":
        settings.check_parts()
    settings = settled(model, settings)
    predicts = model.kind == "diffusion" and settings.length == "predicted"
    if predicts and model.length_predictor is None:
        raise UserError(
            "the model of init_from has no length predictor: name that of a `length` stage, or set "
            "generation.length=oracle where rows have responses"
        )
    return settings


def _row(example: Example, answer: Generated) -> dict[str, Any]:
    assert example.open_fields is not None
    field = {} if example.answer_field is None else {example.answer_field: answer.text}
    return {
        **example.open_fields, **field,
        "inputs": example.asked or example.prompt, "targets": answer.text,
        "score": round(answer.score, 6),
    }  # fmt: skip


def _key(job: StageJob, settings: GenerationSettings, examples: list[Example]) -> str:
    """All that decides the batches of a chunk and their results."""
    asked = [[example.prompt, example.response] for example in examples]
    said = [job.fingerprint, asdict(settings), asked]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
