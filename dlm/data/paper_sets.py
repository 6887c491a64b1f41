"""The data sets of the paper and their stand-ins, and the page that is made of them."""

from pathlib import Path
from typing import Any

import yaml

_COLUMNS = ("name", "use", "hub id", "revision", "fields", "licence", "local files", "tasks")
_HEAD = """# Data

Made from `dlm/data/paper_sets.yaml` by `dlm ls sets --markdown`: change that file, not this one.

Local files lie under `data.root=DIR`; without it the hub is read. A revision of `main` is not
pinned: set `revision` in the recipe to the commit that you use, and `dlm run` will say no more
about it. Some older sets are a loading script, which `datasets` no longer runs: where the hub has
converted one, `revision: refs/convert/parquet` reads it. Licences are as their owners state them;
look before you use a set.
"""


def paper_sets() -> list[dict[str, Any]]:
    """Every set, as paper_sets.yaml has it."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    sets: list[dict[str, Any]] = yaml.safe_load(text)
    return sets


def sets_page() -> str:
    """docs/data.md."""
    lines = [_HEAD, f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for row in paper_sets():
        hub = f"`{row['hub']}`" if "hub" in row else "none"
        config = f" ({row['config']})" if "config" in row else ""
        tasks = ", ".join(f"`{task}`" for task in row.get("tasks", ()))
        cells = [row["name"], row["use"], hub + config, row.get("revision", ""), row["fields"],
                 row["licence"], f"`{row['local']}`", tasks]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {row['name']}: {row['note']}." for row in paper_sets() if "note" in row]
    return "\n".join([*lines, "", *notes]) + "\n"
