"""Padded batches: what is real, what noise may hit, what moves to a device."""

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import DeepSpeedPrecision
from small_vocabulary import tokenizer_of

from dlm.data.batches.batching import BatchRequest, TokenBatch, TokenDataset, validation_requests
from dlm.data.rows.encoding import EncodedRows, encode_rows

PAD = 1
PROMPTS = ["seven", "two hundred and seven", "twelve", "nine", "forty"]
RESPONSES = ["sieben", "zweihundertsieben", "zwölf", "neun", "vierzig"]


@pytest.fixture(scope="module")
def rows() -> EncodedRows:
    return encode_rows(tokenizer_of(), PROMPTS, RESPONSES, conditional=True)


@pytest.fixture(scope="module")
def texts() -> EncodedRows:
    return encode_rows(tokenizer_of(), [""] * 5, RESPONSES, conditional=False)


def batch_of(rows: EncodedRows, *positions: int) -> TokenBatch:
    request = BatchRequest(
        np.array(positions), np.arange(len(positions)), global_rows=8, global_maskable=99
    )
    return TokenDataset(rows, PAD).__getitems__(request)


def test_rows_are_padded_on_the_right_and_pads_are_not_valid(rows: EncodedRows) -> None:
    batch = batch_of(rows, 0, 1)
    width = int(rows.lengths[:2].max())
    assert batch.tokens_BL.shape == (2, width)
    for number, row in enumerate((rows.row(0), rows.row(1))):
        assert batch.tokens_BL[number, : len(row)].tolist() == row.tolist()
        assert batch.tokens_BL[number, len(row) :].eq(PAD).all()
        assert batch.valid_BL[number].sum() == len(row)
    assert (batch.global_rows, batch.global_maskable) == (8, 99)


def test_noise_may_hit_the_response_with_its_end(rows: EncodedRows) -> None:
    batch = batch_of(rows, 0, 1, 2)
    assert batch.maskable_BL.sum(dim=1).tolist() == rows.maskable_lengths[:3].tolist()
    assert torch.equal(batch.response_BL, batch.maskable_BL)
    for number in range(3):
        first = int(rows.prompt_lengths[number])
        assert not batch.maskable_BL[number, :first].any()
        assert batch.maskable_BL[number, first : int(rows.lengths[number])].all()
    assert not (batch.maskable_BL & ~batch.valid_BL).any()


def test_of_a_text_noise_may_hit_all_but_its_ends(texts: EncodedRows) -> None:
    batch = batch_of(texts, 0, 1)
    assert batch.maskable_BL.sum(dim=1).tolist() == (texts.lengths[:2] - 2).tolist()
    assert not batch.maskable_BL[:, 0].any()
    assert not batch.response_BL.any()


def test_a_position_of_a_later_epoch_is_the_same_row_and_another_sample(rows: EncodedRows) -> None:
    first, later = batch_of(rows, 3), batch_of(rows, 3 + 2 * len(rows))
    assert torch.equal(first.tokens_BL, later.tokens_BL)
    assert (first.sample_B.item(), later.sample_B.item()) == (3, 3 + 2 * len(rows))


def test_tokens_are_numbered_from_0_in_their_row(rows: EncodedRows) -> None:
    batch = batch_of(rows, 0)
    assert batch.token_index_BL[0].tolist() == list(range(int(rows.lengths[0])))


def test_every_tensor_and_nothing_else_moves_to_a_device(rows: EncodedRows) -> None:
    batch = batch_of(rows, 0, 1)
    moved = batch.to("meta", non_blocking=True)
    tensors = [name for name, value in vars(batch).items() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 7
    assert {getattr(moved, name).device.type for name in tensors} == {"meta"}
    assert (moved.global_rows, moved.global_maskable) == (8, 99)
    assert {getattr(batch, name).device.type for name in tensors} == {"cpu"}


def test_a_batch_in_pinned_memory_holds_the_same(rows: EncodedRows) -> None:
    batch = batch_of(rows, 0, 1)
    if torch.cuda.is_available():
        assert batch.pin_memory().tokens_BL.is_pinned()
    pinned = batch._map(lambda tensor: tensor.clone())
    assert torch.equal(pinned.tokens_BL, batch.tokens_BL)
    assert pinned.global_rows == batch.global_rows


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_validation_reads_every_row_once_on_any_number_of_devices(
    rows: EncodedRows, batch_size: int, world_size: int
) -> None:
    ranks = [
        validation_requests(rows, batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(requests) for requests in ranks}) == 1
    every = [request for requests in ranks for request in requests]
    read = [int(p) for request in every if not request.filler for p in request.positions]
    assert sorted(read) == list(range(len(rows)))
    # A device without a row reads one of another: all call the network equally often.
    assert all(0 < len(request.positions) <= batch_size for request in every)
    assert {request.global_rows for request in every} == {len(rows)}


@pytest.mark.parametrize("packed_width", [None, 40])
def test_what_the_network_reads_is_known_on_the_host(
    rows: EncodedRows, packed_width: int | None
) -> None:
    request = BatchRequest(np.arange(5), np.arange(5), global_rows=5, global_maskable=99)
    batch = TokenDataset(rows, PAD, packed_width).__getitems__(request)
    lengths = batch.valid_BL.sum(dim=1)
    packing = batch.packing
    area = packing.rows * packing.width if packing else batch.valid_BL.numel()
    assert batch.counts == (int(lengths.sum()), int((lengths**2).sum()), area)
    prompts = (batch.valid_BL & ~batch.response_BL).sum(dim=1)
    assert batch.prompt_counts == (
        int(prompts.sum()), int((prompts**2).sum()), 5 * int(prompts.max())
    )  # fmt: skip


@pytest.mark.parametrize("packed_width", [None, 40])
def test_deepspeed_may_ask_for_another_precision(
    rows: EncodedRows, packed_width: int | None
) -> None:
    request = BatchRequest(np.arange(5), np.arange(5), global_rows=5, global_maskable=99)
    batch = TokenDataset(rows, PAD, packed_width).__getitems__(request)
    cast = DeepSpeedPrecision("bf16-mixed").convert_input(batch)
    assert torch.equal(cast.tokens_BL, batch.tokens_BL)
    assert cast.counts == batch.counts and (cast.packing is None) == (packed_width is None)
