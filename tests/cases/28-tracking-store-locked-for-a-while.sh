#!/bin/bash
# While a sweep runs, another program holds the write lock of its mlflow.db for a minute (a backup, a database browser).
# Right: the sweep goes on, and MLflow has every trial at the end; or, where the lock outlasts the sweep by more than half a
# minute, after the command that the sweep's last line names.
RD=${RAYDISTILL:-raydistill}; BIN=$(dirname "$RD"); WORK=${WORK:-$(mktemp -d /tmp/w-XXXX)}; cd "$WORK"
SMALL="--trials 2 --nimg 32 --set evaluator.budget_nimg=64 --set teacher.budget_nimg=64 --set student.report_every_nimg=32 --set data.num_train=64 --set data.num_val=8 --set data.num_test=8"
timeout 1200 "$RD" sweep --store store $SMALL > out.txt 2>&1 & pid=$!
for i in $(seq 600); do sleep 1; grep -q "trial 1 of" out.txt && break; done
"$BIN/python" -c "
import sqlite3, time
c = sqlite3.connect('store/mlflow.db', timeout=60, isolation_level=None); c.execute('BEGIN IMMEDIATE'); time.sleep(${HOLD:-60}); c.rollback()"
wait $pid; code=$?
tail -1 out.txt | grep -q "not yet in MLflow .* raydistill track " && { "$RD" track store/sweeps/default-001 || code=1; }
runs=$("$BIN/python" -c "
import mlflow
found = mlflow.MlflowClient('sqlite:///$WORK/store/mlflow.db').search_runs(['1'])
print(len(found), {run.info.status for run in found})")
echo "exit code $code; runs: $runs"; tail -3 out.txt
[ $code = 0 ] && [ "$runs" = "9 {'FINISHED'}" ] && grep -q "Training goes on" out.txt
