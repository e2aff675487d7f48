"use strict";
// The page as a whole: what is drawn when, and how it begins.
const REFRESH_SEC = 30;
const STALE_SEC = 15 * 60;

function choose(number) {
  if (number < 0 || number === state.chosen) return;
  state.chosen = number;
  drawDetails();
  markChosenRow();
  drawChosen();
  drawCompare();
  drawChosenCurve();
  writeState();
}

function drawSummary() {
  const count = (test) => data.rows.filter(test).length;
  const parts = [`${data.rows.length} ${data.rows.length === 1 ? "trial" : "trials"}`, `${count((row) => row.member)} on the front`];
  for (const status of ["PRUNED", "FAIL", "RUNNING"]) {
    const number = count((row) => row.status === status);
    if (number) parts.push(`${number} ${{ PRUNED: "stopped early", FAIL: "failed", RUNNING: "without a result" }[status]}`);
  }
  byId("summary").textContent = [...parts, `drawn ${data.moment.drawn.replace("T", " ").replace("Z", " UTC")}`].join(" · ");
  const parted = data.outcome.split("`");  // what stands in backticks is a command
  byId("outcome").replaceChildren(...parted.map((part, index) => element(index % 2 ? "code" : "span", { text: part })));
  byId("facts").replaceChildren(...Object.entries(data.facts).map(([key, value]) => element("div", {}, definitions([[key, shown(value)]]))));
}

/** Says that a page is partial; while the sweep runs, and the page is young, it loads itself again. */
function sayState() {
  const { state: now, drawn } = data.moment;
  if (now === "ended") return;
  const isStale = Date.now() - Date.parse(drawn) > STALE_SEC * 1000;
  const refreshes = now === "running" && !isStale;
  const why = now === "unfinished" ? "the sweep has not ended, and nothing trains it here"
    : refreshes ? `the sweep runs, and this page loads itself again every ${REFRESH_SEC} s`
      : "the sweep ran then, but this page was not drawn for 15 minutes: raydistill frontier draws it again";
  byId("state").hidden = false;
  byId("state").textContent = `Partial: ${why}.`;
  if (refreshes) setTimeout(() => location.reload(), REFRESH_SEC * 1000);
}

/** Shows the state in all inputs. */
function fillInputs() {
  for (const id of ["x", "y", "colour", "metric"]) byId(id).value = state[id];
  for (const id of ["delta", "bars"]) byId(id).checked = state[id];
  byId("budget").value = state.budget === null ? "" : scaled(state.budget, 4);
  byId("within").value = String(state.within);
}

function drawAll() {
  drawAnswers();
  drawTable();
  drawDetails();
  drawFront();
  drawCompare();
  redrawSeen();
  writeState();
}

function changed(field) {
  return (value) => {
    state[field] = value;
    if (field === "x" || field === "y") state.zoom = null;
    if (field === "x") {
      state.budget = null;
      byId("budget").value = "";
    }
    drawAnswers();
    drawFront();
    redrawSeen();
    writeState();
  };
}

function numberChanged(id, otherwise) {
  const value = parsed(byId(id).value);
  state[id] = value ?? otherwise;
  drawAnswers();
  drawFront();
  writeState();
}

function connect() {
  const names = [...axes.keys()];
  fillSelect("x", names, state.x, changed("x"));
  fillSelect("y", names, state.y, changed("y"));
  fillSelect("colour", ["group", ...names], state.colour, changed("colour"));
  fillSelect("metric", Object.keys(data.curves.metrics), state.metric, changed("metric"));
  fillSelect("range-axis", names.filter((name) => !axes.get(name).texts), data.start[0], () => {});
  byId("curves").hidden = !state.metric;
  byId("budget").addEventListener("change", () => numberChanged("budget", null));
  byId("within").addEventListener("change", () => numberChanged("within", 5));
  byId("range-add").addEventListener("click", addRange);
  byId("delta").addEventListener("change", () => { state.delta = byId("delta").checked; drawTable(); writeState(); });
  byId("bars").addEventListener("change", () => { state.bars = byId("bars").checked; drawFront(); writeState(); });
  byId("copy").addEventListener("click", () => copyText(tableText(), `copied: ${remaining().length} rows, separated by tabs`));
  byId("more-rows").addEventListener("click", () => { allRows = true; drawTable(); });
  byId("progress-by").addEventListener("change", drawProgress);
  byId("trials").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.dataset.row));
  });
  byId("front-plot").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); stepChosen(step); }
  });
  addEventListener("hashchange", () => { readState(); fillInputs(); drawGroups(); drawRanges(); drawColumnList(); drawAll(); });
  dark.addEventListener("change", drawAll);
}

/** Clicks on points choose a trial; the legend hides groups as the boxes do. */
function connectPlots() {
  const front = byId("front-plot");
  front.on?.("plotly_relayout", frontMoved);
  front.on?.("plotly_legendclick", ({ data: traces, curveNumber }) => {
    const group = traces[curveNumber].meta;
    if (group in data.marks) setTimeout(() => toggleGroup(group));
    return false;
  });
  connectOnce("front-plot");
}

const connected = new Set();

/** Lets a plot's points choose their trials; a plot can be connected once it is drawn. */
function connectOnce(id) {
  if (connected.has(id) || !byId(id).on) return;
  connected.add(id);
  byId(id).on("plotly_click", ({ points }) => Number.isInteger(points[0].customdata) && choose(points[0].customdata));
}

async function start() {
  sayState();
  readState();
  connect();
  fillInputs();
  drawSummary();
  drawPlanned();
  drawFailures();
  fillCompare();
  drawGroups();
  drawRanges();
  drawColumnList();
  drawAnswers();
  drawTable();
  drawDetails();
  try {
    await loadPlotly();
  } catch (error) {
    byId("front-note").textContent = `The plots need a browser of 2023 or later (${error.message}); the table has all numbers.`;
    return;
  }
  drawFront();
  await frontDrawn;
  connectPlots();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
  whenSeen("compare", drawCompare);
  if (state.metric) whenSeen("curves", () => { drawCurves(); connectOnce("curves-plot"); });
  whenSeen("search", () => { drawSearch(); ["parallel-plot", "slices-plot"].forEach(connectOnce); });
}

start();
