#!/bin/bash
# A batch system's TMPDIR of ordinary length, as SLURM and LSF set it for each job; macOS sets one of 49 characters. Ray's sockets must not
# exceed 107 (macOS: 103) characters. The results folder has letters that mean something in addresses, in patterns and in shells.
# Right: doctor and sweep run, and say where Ray's files go.
RD=${RAYDISTILL:-raydistill}; WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"; bad=0
export TMPDIR=$WORK/scratch/slurm/job_1234567/some_user_name_here/tmp.node0016/and_more; mkdir -p "$TMPDIR"; echo "TMPDIR has ${#TMPDIR} characters"
store="$WORK/a b%20c?d#e'f[g]"
SMALL="--seconds-per-image 0.01 --set evaluator.budget_nimg=128 --set teacher.budget_nimg=128 --set student.report_every_nimg=64"
timeout 900 "$RD" doctor --store "$store" > doctor.txt 2>&1; code=$?
tail -1 doctor.txt; echo "doctor: exit code $code"
grep -q "TMPDIR=.* too long for Ray's sockets: .* Ray's own files go to /" doctor.txt && grep -q "ok    ray" doctor.txt || bad=1
timeout 900 "$RD" sweep --store "$store" --trials 2 --nimg 128 $SMALL > sweep.txt 2>&1; code=$?
tail -3 sweep.txt; echo "sweep: exit code $code"
[ $code = 0 ] && grep -q "TMPDIR=.* too long for Ray's sockets" sweep.txt || bad=1
for file in mlflow.db sweeps/default-001/trials.parquet mlartifacts; do [ -e "$store/$file" ] || { echo "no $file"; bad=1; }; done
timeout 100 "$RD" frontier "$store/sweeps/default-001" > frontier.txt 2>&1 || bad=1
exit $bad
