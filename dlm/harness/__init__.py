"""Models of ours under EleutherAI's lm-evaluation-harness: ``python -m dlm.harness``.

The harness is an optional extra, ``pip install 'dlm[harness]'``; nothing else of dlm imports it.
"""
