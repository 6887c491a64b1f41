#!/bin/sh
# torchmetrics: SacreBLEUScore is 0 where sacreBLEU is 59.5, smoothing or not.
#
# Guess    SacreBLEUScore gives sacreBLEU's score; or at least with smooth=True, where no sequence of
#          four words is right, more than 0
# Seen     torchmetrics 1.9.0, "the cat sat down" against "the cat sat there": 0.0, with smooth=True
#          0.0 too; sacrebleu 2.6.0: 59.5, as it smooths by default (exp). With a right sequence of
#          four words both agree
# Matters  validations early in training and on few or short rows: 0 at every step chooses none
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torchmetrics==1.9.0 sacrebleu==2.6.0
cd "$folder"
seen=$(venv/bin/python - <<'PY'
from sacrebleu import corpus_bleu
from torchmetrics.text import SacreBLEUScore

for text, reference in [
    ("the cat sat down", "the cat sat there"),
    ("the cat sat on the mat", "the cat sat on a mat"),
]:
    plain, smooth = (
        SacreBLEUScore(smooth=smooth)([text], [[reference]]).item() * 100 for smooth in (False, True)
    )
    score = corpus_bleu([text], [[reference]]).score
    print(f"{text}: torchmetrics {plain:.1f}, smooth {smooth:.1f}, sacrebleu {score:.1f}")
PY
)
echo "$seen"
[ "$seen" = "the cat sat down: torchmetrics 0.0, smooth 0.0, sacrebleu 59.5
the cat sat on the mat: torchmetrics 53.7, smooth 63.9, sacrebleu 53.7" ] || {
    echo "this has changed" >&2; exit 1; }
