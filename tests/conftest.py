"""For every test: nothing is written to the home directory. The longest files begin first."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokenized rows lie in a temporary directory, which the session's tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


LONGEST = ("test_readme", "test_slurm", "test_faults", "test_zero_chain", "test_another_shape",
           "test_zero_faults", "test_kill_and_resume", "test_two_processes")  # fmt: skip
"""Files of slow tests. Two run at a time, and one that began last would end alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)
