"""``python -m dlm.harness``: the command line of lm-evaluation-harness with the model type dlm."""

import sys

from dlm.errors import DlmError, UserError


def main() -> int:
    """Hand everything on, ``--model dlm`` unless another is named; exit codes are those of dlm."""
    try:
        try:
            from lm_eval.__main__ import cli_evaluate
        except ImportError as error:
            raise UserError(
                f"lm-evaluation-harness cannot be imported ({error}): pip install 'dlm[harness]'"
            ) from error
        import dlm.harness.model  # noqa: F401 - registers the model type

        words = sys.argv[1:]
        lists = words[:1] in (["ls"], ["validate"]) or not words
        named = any(word == "-M" or word.split("=")[0] == "--model" for word in words)
        if not lists and not named:
            sys.argv += ["--model", "dlm"]
        cli_evaluate()
    except DlmError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
