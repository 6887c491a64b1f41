"""Rows from local files, the Hugging Face hub or a generator: any source in, one stream out."""

from dlm.data.sources.bad_rows import BadRow, BadRows
from dlm.data.sources.files import FileKind, Format, below, file_kind, source_files
from dlm.data.sources.holdout import Holdout
from dlm.data.sources.identity import file_sha256, source_identity
from dlm.data.sources.places import Place, Row, json_kind, names_of, remedy_of
from dlm.data.sources.reading import reading_of
from dlm.data.sources.source import Source, delimiter_reason, encoding_reason
from dlm.data.sources.stream import read_rows, stream_rows

__all__ = [
    "BadRow",
    "BadRows",
    "FileKind",
    "Format",
    "Holdout",
    "Place",
    "Row",
    "Source",
    "below",
    "delimiter_reason",
    "encoding_reason",
    "file_kind",
    "file_sha256",
    "json_kind",
    "names_of",
    "read_rows",
    "reading_of",
    "remedy_of",
    "source_files",
    "source_identity",
    "stream_rows",
]
