#!/bin/sh
# torchmetrics: BLEU and chrF of short texts are far from sacrebleu's, whose code they name.
#
# Guess    SacreBLEUScore and CHRFScore give what sacrebleu's corpus_bleu and corpus_chrf give; with
#          smooth=True BLEU is above 0 where no sequence of four words is right; a text against
#          itself has 100
# Seen     torchmetrics 1.9.0 beside sacrebleu 2.6.0. BLEU of "the cat sat down" against "the cat
#          sat there": 0.0, smoothed too, and 59.5 (sacrebleu smooths by default). chrF of "dog"
#          against itself 50.0, of "4" 16.7, and 100: a text without n-grams of some order counts as
#          wrong, where sacrebleu leaves the order out. Of longer texts both agree
# Matters  validations early in training, and answers of one word or number: the score that chooses
#          a step is 0 at every step, or ranks right answers by their length
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 sacrebleu==2.6.0
cd "$folder"
seen=$(venv/bin/python - <<'PY'
from sacrebleu import corpus_bleu, corpus_chrf
from torchmetrics.text import CHRFScore, SacreBLEUScore

LONG = ("the cat sat on the mat", "the cat sat on a mat")
for text, reference in [("the cat sat down", "the cat sat there"), LONG]:
    plain, smooth = (
        SacreBLEUScore(smooth=smooth)([text], [[reference]]).item() * 100 for smooth in (False, True)
    )
    score = corpus_bleu([text], [[reference]]).score
    print(f"BLEU {text}: torchmetrics {plain:.1f}, smooth {smooth:.1f}, sacrebleu {score:.1f}")
for texts, references in [(["dog"], ["dog"]), (["4"], ["4"]), ([LONG[0]], [LONG[1]])]:
    plain = CHRFScore(n_word_order=0)(texts, [[text] for text in references]).item() * 100
    score = corpus_chrf(texts, [references], word_order=0).score
    print(f"chrF {texts[0]}: torchmetrics {plain:.1f}, sacrebleu {score:.1f}")
PY
)
echo "$seen"
[ "$seen" = "BLEU the cat sat down: torchmetrics 0.0, smooth 0.0, sacrebleu 59.5
BLEU the cat sat on the mat: torchmetrics 53.7, smooth 63.9, sacrebleu 53.7
chrF dog: torchmetrics 50.0, sacrebleu 100.0
chrF 4: torchmetrics 16.7, sacrebleu 100.0
chrF the cat sat on the mat: torchmetrics 72.1, sacrebleu 72.1" ] || {
    echo "this has changed" >&2; exit 1; }
