#!/bin/sh
# torchmetrics: chrF of a text against itself is 50 where the text has three letters.
#
# Guess    CHRFScore gives what sacrebleu's corpus_chrf gives (its documentation names sacrebleu's
#          implementation as the one that it follows), so a text against itself has 100
# Seen     torchmetrics 1.9.0: "dog" against "dog" has 50.0, "4" against "4" 16.7, the three texts
#          dog, cat, a against themselves 50.0; sacrebleu 2.6.0: 100 each. A text without n-grams of
#          some order counts as wrong there; sacrebleu leaves the order out. Of long texts both
#          agree: "the cat sat on the mat" against "the cat sat on a mat" 72.1
# Matters  answers of one word or number, where BLEU is 0 and chrF is what is left
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 sacrebleu==2.6.0
cd "$folder"
seen=$(venv/bin/python - <<'PY'
from sacrebleu import corpus_chrf
from torchmetrics.text import CHRFScore

ROWS = [
    (["dog"], ["dog"]),
    (["4"], ["4"]),
    (["dog", "cat", "a"], ["dog", "cat", "a"]),
    (["the cat sat on the mat"], ["the cat sat on a mat"]),
]
for texts, references in ROWS:
    theirs = CHRFScore(n_word_order=0)(texts, [[text] for text in references]).item() * 100
    ours = corpus_chrf(texts, [references], word_order=0).score
    print("/".join(texts), f"torchmetrics {theirs:.1f} sacrebleu {ours:.1f}")
PY
)
echo "$seen"
[ "$seen" = "dog torchmetrics 50.0 sacrebleu 100.0
4 torchmetrics 16.7 sacrebleu 100.0
dog/cat/a torchmetrics 50.0 sacrebleu 100.0
the cat sat on the mat torchmetrics 72.1 sacrebleu 72.1" ] || { echo "this has changed" >&2; exit 1; }
