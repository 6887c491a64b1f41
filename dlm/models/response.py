"""Where the response lies in a row, read off its tokens."""

from torch import Tensor


def response_of(tokens_BL: Tensor, valid_BL: Tensor, end_token_id: int) -> Tensor:
    """What follows the prompt's end token, bool [B, L].

    A row is  begin prompt end response end, or  begin text end  (nothing follows: no response).
    The end token is never part of a prompt's text and noise never hits the prompt, so this holds
    at any noise level. A begin token that is the end token too (GPT-2) does not count.
    """
    inside_BL = valid_BL.cumsum(dim=1) > 1
    end_BL = (tokens_BL == end_token_id) & valid_BL & inside_BL
    before_BL = end_BL.cumsum(dim=1) - end_BL.long()
    return valid_BL & (before_BL > 0)
