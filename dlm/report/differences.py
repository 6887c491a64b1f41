"""What an answer has otherwise than the reference, word by word."""

import re
from difflib import SequenceMatcher
from html import escape

_WORDS = re.compile(r"\w+|[^\w\s]")
_LIMIT = 1500


def difference_html(reference: str, answer: str) -> str:
    """The answer; ``<ins>``: not in the reference, ``<del>``: the reference's that it lacks."""
    (old, cut_old), (new, cut_new) = _words(reference), _words(answer)
    texts = [text for text, _ in old], [text for text, _ in new]
    parts = []
    matcher = SequenceMatcher(a=texts[0], b=texts[1], autojunk=False)
    for _, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if texts[0][old_from:old_to] == texts[1][new_from:new_to]:
            kept = _joined(new[new_from:new_to])
            # Of two words that a mark parted, the second may have been the first of its text.
            parts.append(f" {kept}" if parts and kept[:1].isalnum() else kept)
            continue
        if old_from < old_to:
            parts.append(_marked("del", old[old_from:old_to]))
        if new_from < new_to:
            parts.append(_marked("ins", new[new_from:new_to]))
    shown = "".join(parts).strip() or '<span class="empty">(empty)</span>'
    return shown + (' <span class="empty">(cut here)</span>' if cut_old or cut_new else "")


def cut(text: str) -> str:
    """A text as HTML, cut where it would fill the page."""
    return escape(text if len(text) <= _LIMIT else f"{text[:_LIMIT]} (cut here)")


def _words(text: str) -> tuple[list[tuple[str, bool]], bool]:
    """Words and signs, each with whether a space stands before it; and whether text was cut."""
    shown = text[:_LIMIT]
    found = [
        (match[0], match.start() > 0 and shown[match.start() - 1].isspace())
        for match in _WORDS.finditer(shown)
    ]
    return found, len(text) > _LIMIT


def _joined(words: list[tuple[str, bool]]) -> str:
    return "".join((" " if space else "") + escape(text) for text, space in words)


def _marked(tag: str, words: list[tuple[str, bool]]) -> str:
    # Always apart from what stands before: a deletion and an insertion may follow each other.
    return f" <{tag}>{_joined(words).strip()}</{tag}>"
