"""What MkDocs calls while it builds the site (`hooks` in mkdocs.yml)."""

import logging
import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LOG = logging.getLogger("mkdocs.hooks.dlm")  # what it warns of fails a strict build
_ROOT = Path(__file__).parent.parent
_LIST = re.compile(r"<!-- dlm ls (\w+) -->")
_BEGINS = re.compile(r"- |\|")
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>(?:\.\./)+[^)#]*)(?:#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave pages out of the navigation that are not there; one that is there and not in it is a
    warning (``omitted_files``)."""
    config.nav = [_kept(entry, Path(config.docs_dir)) for entry in config.nav or []]
    return config


def _kept(entry: Any, folder: Path) -> Any:
    """An entry of the navigation without the pages that neither exist nor are generated."""
    ((title, inner),) = entry.items()
    if isinstance(inner, str):
        return entry
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    there = written | reference.PAGES.keys()
    return {title: [page for page in inner if there & {*page.values()}]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for place, write in reference.PAGES.items():
        files.append(File.generated(config, place, content=write()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the lists of `dlm ls` in place of ``<!-- dlm ls NAME -->``; name files of the repository
    that are not on the site, which pages link for readers of the repository."""
    source = Path(config.docs_dir, page.file.src_uri).parent

    def listed(found: "re.Match[str]") -> str:
        if found[1] in reference.LISTS:
            return reference.names_list(found[1])
        _LOG.warning("%s asks for `dlm ls %s`, which there is not", page.file.src_uri, found[1])
        return found[0]

    def named(found: "re.Match[str]") -> str:
        target = (source / found["target"]).resolve()
        if target.is_relative_to(config.docs_dir) or not target.exists():
            return found[0]  # MkDocs sees to it
        place = target.relative_to(_ROOT).as_posix()
        text = found["text"].strip("`")
        return f"`{place}`" if place.endswith(text) else f"{text} (`{place}`)"

    return _OUTSIDE.sub(named, _LIST.sub(listed, spaced(markdown)))


def spaced(markdown: str) -> str:
    """The page with an empty line before each list and table, which Python-Markdown wants and other
    readers of Markdown do not."""
    lines: list[str] = []
    inside_fence, before = False, ""
    for line in markdown.splitlines():
        start = _BEGINS.match(line)
        if start and not inside_fence and before and not before.startswith((start[0], " ")):
            lines.append("")
        inside_fence ^= line.lstrip().startswith("```")
        lines.append(line)
        before = line
    return "\n".join(lines) + "\n"
