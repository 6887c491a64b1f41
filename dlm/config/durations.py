"""Durations as people and clusters write them."""

import re

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WORDS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")
FORMS = "write 3h30m, 1d12h, 45m or 90s, or in quotes [D-]HH:MM:SS, MM:SS or seconds"


def seconds_of(text: str) -> float:
    """``3h30m``, ``00:55:00``, ``1-12:00:00``, ``45:00`` (minutes, seconds), or plain seconds.

    Raises:
        ValueError: It is none of these, or not above 0.
    """
    word = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", word):
        seconds = float(word)
    elif word and (match := _WORDS.fullmatch(word) or _CLOCK.fullmatch(word)):
        parts = zip(match.groups(), _UNITS.values(), strict=True)
        seconds = float(sum(int(part) * unit for part, unit in parts if part))
    else:
        raise ValueError(f"not a duration: {FORMS}")
    if seconds <= 0:
        raise ValueError(f"must be above 0: {FORMS}")
    return seconds
