"""What a source is: where its rows are, and what is done with them on the way."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dlm.data.sources.files import Format
from dlm.data.sources.holdout import Holdout


@dataclass(frozen=True)
class Source:
    """One place that rows come from; exactly one of ``path``, ``parallel``, ``hub``, ``generator``
    and ``stage``."""

    split: str
    """Split of a hub data set or a generator."""
    path: Path | None = None
    """A file, a folder of files, or a glob pattern."""
    parallel: dict[str, Path] = field(default_factory=dict)
    """Our field name -> the text file whose lines are its values."""
    format: Format | None = None
    """The format of the files; None: by their names."""
    delimiter: str | None = None
    """CSV and TSV: what stands between cells; None: by the file's beginning."""
    encoding: str | None = None
    """Of the text in files; None: UTF-8, or what a byte order mark says."""
    hub: str | None = None
    hub_config: str | None = None
    hub_files: str | None = None
    """A glob pattern of the files of the hub data set that are read."""
    revision: str | None = None
    streaming: bool = False
    """Read the hub data set over the network as it is used, and keep no copy."""
    stage: str | None = None
    """A stage that writes rows; ``path`` is its file, None where the stage is not done yet."""
    generator: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    """Our field name -> the row's."""
    columns: tuple[str, ...] = ()
    """CSV and TSV without a header: the names of the columns."""
    unquoted: bool = False
    """CSV and TSV: a quote mark is a character like any other."""
    id_field: str | None = None
    """The row's field that no two rows share; costs about 100 bytes of memory a row."""
    holdout: Holdout | None = None
    limit: int | None = None
    """Only the first this many rows that can be read."""
    normalise: Literal["none", "nfc"] = "none"
    """Text as it is, or every text of a row in Unicode's composed form (NFC)."""
    seed: int = 0

    @property
    def place(self) -> str:
        """Where the rows come from, for messages."""
        if self.path is not None:
            return str(self.path)
        if self.parallel:
            return ", ".join(map(str, self.parallel.values()))
        if self.stage is not None:
            return f"the rows of stage {self.stage}"
        if self.hub is not None:
            return f"hub data set {self.hub} ({self.split})"
        return f"generator {self.generator} ({self.split})"


def encoding_reason(encoding: str | None) -> str | None:
    """What is wrong with the name of an encoding; None: nothing."""
    try:
        "a".encode(encoding or "utf-8")
    except (LookupError, UnicodeError):
        return f"encoding = {encoding!r}: Python knows no such encoding of text (cp1252 is one)"
    return None


def delimiter_reason(delimiter: str | None) -> str | None:
    """What is wrong with a delimiter; None: nothing."""
    if delimiter is None or (len(delimiter) == 1 and delimiter not in '"\r\n'):
        return None
    return f'delimiter = {delimiter!r} must be one character (a tab is "\\t"), and no quote mark'
