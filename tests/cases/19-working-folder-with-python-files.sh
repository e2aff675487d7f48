#!/bin/bash
# The command is run in a project folder of the user's that holds files of ordinary names: optuna.py, random.py, another checkout of
# raydistill. The console script does not import from there, and neither do Ray's workers and other processes.
# Right: nothing in the working folder is imported, by no process; plug-ins and spaces that are named as files there work.
RD=${RAYDISTILL:-raydistill}; WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"; mkdir -p p; bad=0
SMALL="--trials 1 --nimg 32 --set evaluator.budget_nimg=64 --set teacher.budget_nimg=64 --set student.report_every_nimg=32 --set data.num_train=64 --set data.num_val=8 --set data.num_test=8"
for file in ${FILES:-optuna.py random.py utils.py torch.py raydistill/__init__.py}; do
  mkdir -p "p/$(dirname $file)"; echo "open('$WORK/imported', 'a').write('$file by ' + str(__import__('sys').argv) + '\n'); raise ImportError('the $file of the working folder')" > "p/$file"
done
cat > p/space.py <<P
from raydistill.space import Int, Objective, SearchSpace
SPACE = SearchSpace(preset="shapes32", uniform=(4,), parameters={"student.generator.widths.trunk": Int(low=4, high=8)},
    objectives=(Objective(name="val/miou", direction="max", reference=0.0), Objective(name="cost/macs", direction="min")))
P
cd p; timeout 900 "$RD" sweep --space space.py --store "$WORK/store" $SMALL > "$WORK/out.txt" 2>&1; code=$?
cd "$WORK"; echo "exit code $code"; tail -2 out.txt; sort imported 2> /dev/null | uniq -c
[ $code = 0 ] && [ ! -e imported ] || bad=1
exit $bad
