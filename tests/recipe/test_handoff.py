"""A stage starts from exactly what the stage before it wrote."""

import pytest
from small_platform import Workplace

from dlm.recipe import manifest

Output = pytest.CaptureFixture[str]


def test_a_changed_export_is_refused_where_the_next_stage_starts(
    place: Workplace, capsys: Output
) -> None:
    place.run(stop="pretrain")
    model = place.directory("pretrain") / "export" / "model.txt"
    whole = model.read_text()
    model.write_text(whole[::-1])  # as long as before
    capsys.readouterr()
    assert place.run() == 3 and place.kinds.calls == []
    error = capsys.readouterr().err
    assert "stage adapt cannot start from stage pretrain" in error
    assert "export/model.txt has other contents than when it was written" in error
    assert "--force pretrain" in error
    model.write_text(whole)
    assert place.run() == 0 and place.kinds.calls == ["adapt", "twin"]


def test_making_the_stage_anew_mends_a_changed_export(place: Workplace) -> None:
    place.run(stop="pretrain")
    model = place.directory("pretrain") / "export" / "model.txt"
    model.write_text(model.read_text()[::-1])
    assert place.run(force=["pretrain"]) == 0
    assert place.kinds.calls == ["pretrain", "adapt", "twin"]


def test_each_export_is_read_once_a_run(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(directory, manifest):  # type: ignore[no-untyped-def]
        read.append(directory.name)
        return []

    monkeypatch.setattr(manifest, "verify_exports", count)
    stages = place.recipe.stages
    stages["twin"] = stages["adapt"]
    assert place.run() == 0 and read == ["01_pretrain"]
