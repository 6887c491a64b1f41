"""A platform for diffusion language models: pretrain, adapt, tune, generate, evaluate.

``dlm.load(RUN)`` opens a model; see ``dlm/api.py``. Importing dlm loads nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlm.api import Answer, Model, Score, UserError, load

__all__ = ["Answer", "Model", "Score", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dlm")
    if name in __all__:
        from dlm import api

        return getattr(api, name)
    raise AttributeError(f"module 'dlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
