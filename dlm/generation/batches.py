"""Batches of like length under a token budget."""

from collections.abc import Sequence


def batches_of_like_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices cut into batches whose padded size (rows x longest) stays under ``max_tokens``.

    Longest first, so that a batch that does not fit in memory fails at the start.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
