"""Where the responses of a stage stand: as the model, the recipe or the rows say."""

from pathlib import Path

from dlm.data.modules import RowsDataModule
from dlm.data.rows.wanted import RowSides
from dlm.errors import UserError
from dlm.generation.model import read_description
from dlm.models.backbone import Backbone
from dlm.models.positions import CONTINUED, ResponsePositions, fixed_start, has_token_types
from dlm.training.job import StageJob


def known_positions(job: StageJob) -> ResponsePositions | None:
    """What is known before the rows are read: of the model that the stage starts from, or of the
    recipe. None: the rows decide where responses start, or there are none.

    Raises:
        UserError: The recipe says otherwise than the model.
    """
    model, source = job.config.model, job.config.init_from or job.config.model.pretrained
    place = None if source is None else Path(job.exports.get(source, source))
    given = None if place is None else read_description(place).response_positions
    if job.config.kind == "length":
        return given
    if given is not None:
        asked = {
            "response_positions": (model.response_positions, given.layout),
            "response_start": (model.response_start, given.start),
            "response_token_type": (model.response_token_type, given.token_type),
        }
        for name, (value, has) in asked.items():
            if value not in (None, has):
                raise UserError(
                    f"{job.name}: model.{name}={value}, but {source} was trained with {has} "
                    f"(responses {given}): remove the setting, or train {source} with it"
                )
        return given
    # By default the responses of instructions, which are as long as they please, follow them.
    continued = model.response_positions == "continued" or (
        model.response_positions is None and job.config.kind == "instruct"
    )
    if not continued and model.response_start is None:
        return None
    return ResponsePositions(model.response_start, bool(model.response_token_type))


def settle_positions(job: StageJob, backbone: Backbone, data: RowsDataModule) -> str | None:
    """Let a network place responses as the stage has them, and say how.

    Raises:
        UserError: The rows do not fit, or the network has no token type for responses.
    """
    longest = data.longest_parts()
    if longest is None:  # no row has a prompt: whatever comes next decides
        return None
    where = known_positions(job)
    note = None
    if where is None:
        where, note = _measured(job, backbone, longest)
    if where.token_type and not has_token_types(backbone.network.config):
        raise UserError(
            f"{job.name}: model.response_token_type=true: a model of type "
            f"'{backbone.network.config.model_type}' has no second token type; remove it"
        )
    if where.start is not None and backbone.by_place:
        raise UserError(
            f"{job.name}: model.response_positions=fixed: the attention of a model of type "
            f"'{backbone.network.config.model_type}' reads how far apart tokens lie in the row, "
            "so responses cannot stand from one start on; set it to continued, or remove it"
        )
    if where.start is not None and (
        longest.prompt > where.start or longest.response > backbone.max_length - where.start
    ):
        highest = backbone.max_length - longest.response
        fits = longest.prompt <= highest
        raise UserError(
            f"{job.name}: responses start at position {where.start} of the model's "
            f"{backbone.max_length} (model.response_start), and the rows have prompts of up to "
            f"{longest.prompt} tokens and responses of up to {longest.response}: "
            + (f"train with a start from {longest.prompt} to {highest}, or " if fits else "")
            + "leave such rows out (data.too_long=drop)"
        )
    backbone.response_positions = where
    return note or (f"responses stand {where}" if where != CONTINUED else None)


def _measured(
    job: StageJob, backbone: Backbone, longest: RowSides
) -> tuple[ResponsePositions, str | None]:
    """The start that the rows need; by default, where they leave no room for one, or the network
    writes from left to right or reads distances in the row, responses follow their prompts. And
    what is to be said of that."""
    typed = bool(job.config.model.response_token_type)
    needed = longest.prompt + longest.response
    if job.config.model.response_positions is None:
        if backbone.causal:
            return ResponsePositions(None, typed), None
        if backbone.by_place:
            note = "responses follow their prompts: attention reads how far apart tokens lie"
            return ResponsePositions(None, typed), note
        if needed > backbone.max_length:
            return ResponsePositions(None, typed), (
                f"responses follow their prompts: from one start on the longest prompt "
                f"({longest.prompt} tokens) and the longest response ({longest.response}) would "
                f"need {needed} positions, and the model has {backbone.max_length} "
                "(model.response_positions)"
            )
    start = fixed_start(longest.prompt, longest.response, backbone.max_length)
    return ResponsePositions(start, typed), None
