"""Files that a length stage's export takes over from the model it started from."""

from pathlib import Path

from dlm.training.export import link_or_copy


def test_files_of_our_own_exports_are_hard_linked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("weights")
    link_or_copy(source, tmp_path / "target", ours=True)
    assert (tmp_path / "target").samefile(source)


def test_files_from_elsewhere_are_copied_and_symbolic_links_followed(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "1234"
    blob.parent.mkdir()
    blob.write_text("weights")
    source = tmp_path / "model.safetensors"
    source.symlink_to(Path("blobs") / "1234")
    target = tmp_path / "export" / "model.safetensors"
    target.parent.mkdir()
    link_or_copy(source, target, ours=False)
    assert not target.is_symlink() and target.read_text() == "weights"
    blob.write_text("edited by its owner")
    assert target.read_text() == "weights"
