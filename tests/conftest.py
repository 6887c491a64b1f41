"""For every test: nothing is written to the home directory."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokenized rows lie in a temporary directory, which the session's tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
