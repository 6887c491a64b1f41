"""Bytes in UTF-8 with line feeds, of a file in another encoding or with other line ends."""

import codecs

from dlm.data.sources.opening import ByteReader
from dlm.errors import UserError


class RecodedReader:
    """Reads as a :class:`ByteReader` does."""

    def __init__(
        self, file: ByteReader, origin: str, encoding: str, *, carriage_returns: bool
    ) -> None:
        """``carriage_returns``: lines end in these alone."""
        self._file, self._origin, self._encoding = file, origin, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._carriage_returns = carriage_returns
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """Some bytes of UTF-8; empty at the end.

        Raises:
            UserError: The file is damaged, or its bytes are not of the encoding.
        """
        while True:
            block = self._file.read(size)
            try:
                text = self._decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise UserError(
                    f"{self._origin}: not {self._encoding} ({getattr(error, 'reason', error)}, "
                    f"about byte {self._bytes + getattr(error, 'start', 0) + 1:,}): correct "
                    "`encoding` of the source, or the file"
                ) from error
            self._bytes += len(block)
            if text or not block:
                return (text.replace("\r", "\n") if self._carriage_returns else text).encode()
