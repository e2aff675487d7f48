#!/bin/bash
# The whole results folder is moved (another disk, another name), with a finished sweep and one that was interrupted in it.
# Right: everything in it can be used at the new place: frontier, evaluate, export, latency, sweep --resume (finished and interrupted).
RD=${RAYDISTILL:-raydistill}; WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"; bad=0
SMALL="--set evaluator.budget_nimg=64 --set teacher.budget_nimg=64 --set data.num_train=64 --set data.num_val=8 --set data.num_test=8"
timeout 1200 "$RD" sweep --store old --name done --trials 2 --nimg 32 --set student.report_every_nimg=32 $SMALL > out1.txt 2>&1; echo "first sweep: exit code $?"
timeout 1200 "$RD" sweep --store old --name cut --trials 3 --nimg 3200 --set student.report_every_nimg=16 --seed 1 $SMALL > out2.txt 2>&1 & pid=$!
for i in $(seq 240); do sleep 1; ls old/sweeps/cut/trials/*/checkpoint* -d >/dev/null 2>&1 && break; done; sleep 3
kill -INT $pid; wait $pid; echo "second sweep interrupted: exit code $?"; ls old/sweeps/cut/trials
mv old new
run() { name=$1; shift; timeout 1200 "$@" > out.txt 2>&1; code=$?; echo "== $name: exit code $code"; tail -2 out.txt; [ $code = 0 ] || bad=1; }
run frontier "$RD" frontier new/sweeps/done
run evaluate "$RD" evaluate new/sweeps/done/trials/0002 --store new
run export "$RD" export new/sweeps/done/trials/0002 --format safetensors --out e.safetensors
run latency "$RD" latency new/sweeps/done/trials/0002 --repeats 3
run "resume of the finished one" "$RD" sweep --store new --name done --resume --trials 2 --nimg 32 --set student.report_every_nimg=32 $SMALL
run "more trials" "$RD" sweep --store new --name done --resume --trials 3 --nimg 32 --set student.report_every_nimg=32 $SMALL
run "resume of the interrupted one" "$RD" sweep --store new --name cut --resume --trials 3 --nimg 3200 --set student.report_every_nimg=16 --seed 1 $SMALL
grep -h "FAIL" out.txt | cut -c1-160 | head -3; grep -q FAIL out.txt && bad=1; [ -e old ] && { echo "something still writes to the old place:"; find old -type f | head -3; bad=1; }; exit $bad
