#!/bin/bash
# Output into a file, a terminal of 60 columns, one that knows ASCII or Latin-1 only, and data whose folder and classes have other letters.
# `SWEEP` is the folder of a finished sweep.
# Right: exit code 0, no number is cut off, no traceback; what a terminal does not know is written as \xdf.
RD=${RAYDISTILL:-raydistill}; WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"; bad=0
mkdir -p "daten/Straße" "daten/木"
"$(dirname "$RD")/python" - <<P
from PIL import Image
import numpy as np
rng = np.random.default_rng(0)
for name in ("Straße", "木"):
    for i in range(20): Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(f"daten/{name}/{i}.png")
P
for env in "PYTHONIOENCODING=ascii" "PYTHONIOENCODING=latin-1" "LC_ALL=C" "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"; do
  for command in "data inspect daten --sheet s.png" "plan --space sagan --data daten --store st --seconds-per-image 0.01" "sweep --help"; do
    env $env "$RD" $command > out.txt 2>&1; code=$?
    echo "$env: $command: exit code $code: $(tail -1 out.txt | cut -c1-150)"
    [ $code = 0 ] && ! grep -q Traceback out.txt || bad=1
    case "$command" in "data inspect"*) LC_ALL=C grep -qaP 'Stra(\\xdf|\xdf|\xc3\x9f)e' out.txt || { echo "the class has lost its name"; bad=1; };; esac
  done
done
[ "$(ls -d st/cache/data/*/ | wc -l)" = 1 ] || { echo "the pictures were decoded once for each terminal"; bad=1; }
if [ -n "$SWEEP" ]; then for env in "COLUMNS=60" "COLUMNS=30 TERM=dumb" "PYTHONIOENCODING=ascii"; do
  env $env "$RD" frontier "$SWEEP" > out.txt 2>&1; code=$?; echo "$env frontier: exit code $code, cut off: $(grep -c '…' out.txt)"
  [ $code = 0 ] && ! grep -q '…\|Traceback' out.txt || bad=1
done; fi
exit $bad
