"use strict";
// What lies below: learning curves, what was searched, progress, and the lists of the sweep. Drawn when seen.

// ---- learning curves

function curveLine(curves) {
  const x = [], y = [], text = [], rows = [];
  for (const curve of curves) {
    const grid = data.curves.grids[curve.grid];
    x.push(...grid, null);
    y.push(...curve.y, null);
    text.push(...grid.map(() => plain(rowName(data.rows[curve.row]))), "");
    rows.push(...grid.map(() => curve.row), null);
  }
  return { type: "scatter", x, y, text, customdata: rows, hovertemplate: "<b>%{text}</b><br>%{y} at %{x} images<extra></extra>", showlegend: false };
}

function chosenCurve(curves) {
  const own = curves.filter((curve) => curve.row === state.chosen);
  const colour = own.length ? markColour(data.rows[state.chosen].group || "recheck") : css("--ink");
  return { ...curveLine(own), mode: "lines+markers", line: { color: colour, width: 3.5 }, marker: { size: 5 }, meta: "chosen" };
}

function drawCurves() {
  if (!state.metric) return;
  const curves = data.curves.metrics[state.metric].filter((curve) => passes(curve.row));
  const of = (test) => curves.filter((curve) => test(data.rows[curve.row]));
  const groups = Object.keys(data.marks).map((group) => [group, of((row) => row.member && row.group === group)]);
  const traces = [
    { ...curveLine(of((row) => !row.member)), mode: "lines", line: { color: css("--soft"), width: 0.8 }, opacity: 0.4 },
    ...groups.filter(([, found]) => found.length).map(([group, found]) => ({ ...curveLine(found), mode: "lines", line: { color: markColour(group), width: 1.8 } })),
    chosenCurve(curves),
  ];
  const up = axisLayout({ title: titleOf(state.metric), log: false });
  Plotly.react("curves-plot", traces, layout(axisLayout({ title: "images", log: false }), up), config);
}

function drawChosenCurve() {
  const plot = byId("curves-plot");
  const index = plot.data?.findIndex((trace) => trace.meta === "chosen") ?? -1;
  if (index < 0) return;
  const curve = chosenCurve(data.curves.metrics[state.metric]);
  Plotly.restyle(plot, { x: [curve.x], y: [curve.y], text: [curve.text], customdata: [curve.customdata], "line.color": curve.line.color }, [index]);
}

// ---- parallel coordinates

const isDrawnSearch = (number) => data.rows[number].group && data.rows[number].role === "search" && passes(number);

/** Where a value lies between the ends of its axis, from 0 to 1; null: the trial has none. */
function place(name) {
  const choices = choicesOf(name);
  const numbers = data.rows.map((_, number) => number).filter((number) => data.rows[number].group && valueOf(number, name) !== null);
  const { log } = axes.get(name);
  const scale = (value) => (choices ? choices.indexOf(String(value)) : log ? Math.log10(value) : value);
  const values = column(numbers, name).map(scale);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const labels = choices ? [choices[0], choices.at(-1)] : [low, high].map((end) => shown(log ? 10 ** end : end));
  return { labels, at: (value) => (value === null ? null : high > low ? (scale(value) - low) / (high - low) : 0.5) };
}

function drawParallel() {
  const names = [...data.axes.map((axis) => axis.name).filter((name) => name.startsWith("param/")), state.x, state.y];
  const unique = [...new Set(names)];
  const places = unique.map(place);
  const numbers = data.rows.map((_, number) => number).filter(isDrawnSearch);
  const lines = (chosen) => ({
    x: chosen.flatMap(() => [...unique.map((_, index) => index), null]),
    y: chosen.flatMap((number) => [...unique.map((name, index) => places[index].at(valueOf(number, name))), null]),
    text: chosen.flatMap((number) => [...unique.map((name) => `<b>${plain(rowName(data.rows[number]))}</b> ${plain(titleOf(name))} ${plain(shown(valueOf(number, name)))}`), ""]),
    customdata: chosen.flatMap((number) => [...unique.map(() => number), null]),
    type: "scatter", mode: "lines", hoverinfo: "text", showlegend: false, connectgaps: false,
  });
  const members = numbers.filter((number) => data.rows[number].member);
  const traces = [
    { ...lines(numbers.filter((number) => !data.rows[number].member)), line: { color: css("--soft"), width: 0.7 }, opacity: 0.35 },
    { ...lines(members), line: { color: markColour("search"), width: 1.8 } },
    { ...lines(numbers.filter((number) => number === state.chosen)), line: { color: css("--ink"), width: 3 } },
  ];
  const short = (name) => titleOf(name).replace(/^.*\.(?=[^.]+\.[^.]+$)/, "").replace(/^param\//, "");
  const ends = unique.flatMap((_, index) => [0, 1].map((end) => ({
    x: index, y: end, text: plain(places[index].labels[end]), showarrow: false, yshift: end ? 12 : -12, font: { size: 11, color: css("--soft") },
  })));
  const xaxis = { tickvals: unique.map((_, index) => index), ticktext: unique.map((name) => plain(short(name))), gridcolor: css("--line"), zeroline: false, automargin: true, tickangle: 30 };
  const yaxis = { visible: false, range: [-0.12, 1.12], fixedrange: true };
  Plotly.react("parallel-plot", traces, layout(xaxis, yaxis, { annotations: ends }), config);
  byId("parallel-note").textContent = `${numbers.length} searched trials that the filters leave; blue: on the front; thick: the chosen one. A line ends where a trial has no such parameter.`;
}

// ---- slices, importance, progress

function drawSlices() {
  const names = data.axes.map((axis) => axis.name).filter((name) => name.startsWith("param/")).slice(0, 12);
  const across = narrow.matches ? 2 : 4;
  const numbers = data.rows.map((_, number) => number).filter((number) => isDrawnSearch(number) && valueOf(number, state.y) !== null);
  const further = { grid: { rows: Math.ceil(names.length / across), columns: across, pattern: "independent", xgap: 0.12, ygap: 0.4 }, showlegend: false };
  const traces = names.map((name, index) => {
    const end = index ? index + 1 : "";
    further[`xaxis${end}`] = { ...axisLayout(axes.get(name), []), title: { text: plain(name.split(".").slice(-2).join(".")), font: { size: 11 }, standoff: 4 }, type: axes.get(name).texts ? "category" : axes.get(name).log ? "log" : "linear", nticks: 4, automargin: false };
    further[`yaxis${end}`] = { ...axisLayout({ title: "" }, []), nticks: 4, automargin: false };
    return {
      type: "scatter", mode: "markers", xaxis: `x${end}`, yaxis: `y${end}`, customdata: numbers, x: column(numbers, name), y: column(numbers, state.y),
      hoverinfo: "text", hovertext: numbers.map((number) => hover(number, [name, state.y])),
      marker: { size: 4, color: numbers.map((number) => markColour(data.rows[number].member ? data.rows[number].group : "recheck")) },
    };
  });
  const { xaxis, yaxis, ...rest } = further;
  if (names.length) Plotly.react("slices-plot", traces, { ...layout(xaxis, yaxis, rest), margin: { l: 44, r: 12, t: 12, b: 40 } }, config);
  byId("slices-plot").hidden = names.length === 0;
}

function drawImportance() {
  const found = data.importance;
  byId("importance-plot").hidden = found.length === 0;
  byId("importance-note").textContent = found.length
    ? `PED-ANOVA of Optuna over ${found[0].trials} searched trials: the share of each parameter in what sets the best tenth apart.` +
      (found[0].left_out.length ? ` Left out, as only some trials have them: ${found[0].left_out.join(", ")}.` : "")
    : "Too few searched trials for an importance: 10 are needed, which differ in a parameter.";
  if (!found.length) return;
  const traces = found.map(({ objective, shares }) => {
    const entries = Object.entries(shares).reverse();
    return { type: "bar", orientation: "h", name: plain(objective), x: entries.map(([, share]) => share), y: entries.map(([name]) => plain(name.split(".").slice(-2).join("."))), hoverinfo: "x", showlegend: found.length > 1, marker: { color: markColour("search") } };
  });
  Plotly.react("importance-plot", traces, layout(axisLayout({ title: "share", log: false }), { automargin: true, gridcolor: css("--grid") }), config);
}

function drawProgress() {
  const { trial, hours, volume, of } = data.progress;
  const byHours = byId("progress-by").value === "hours";
  const x = byHours ? hours : trial.map((_, index) => index + 1);
  const line = { type: "scatter", mode: "lines", x, y: volume, text: trial.map(plain), hovertemplate: "<b>%{text}</b><br>%{y} after %{x}<extra></extra>", line: { shape: "hv", color: css("--accent"), width: 2 } };
  const title = byHours ? of[0] : "students that ended";
  Plotly.react("progress-plot", [line], layout(axisLayout({ title, log: false }), axisLayout({ title: "hypervolume", log: false }), { showlegend: false }), config);
}

function drawSearch() {
  drawParallel();
  drawSlices();
  drawImportance();
  drawProgress();
}

// ---- lists of the sweep

function drawPlanned() {
  byId("planned").hidden = data.planned.length === 0;
  const heads = ["", "predicted", "actual", "actual / predicted"].map((text) => element("th", { scope: "col", text }));
  const lines = data.planned.map(([what, predicted, actual]) => element("tr", {}, [
    element("th", { scope: "row", text: what }), ...[predicted, actual, predicted ? actual / predicted : null].map((value) => element("td", { text: shown(value) })),
  ]));
  byId("planned-table").replaceChildren(element("thead", {}, [element("tr", {}, heads)]), element("tbody", {}, lines));
}

function drawFailures() {
  const ended = data.rows.filter((row) => row.status === "FAIL" || row.status === "PRUNED");
  ended.sort((a, b) => (a.status === "FAIL" ? 0 : 1) - (b.status === "FAIL" ? 0 : 1));
  byId("failures").hidden = ended.length === 0;
  byId("failures").querySelector("ul").replaceChildren(...ended.map((row) => element("li", {}, [
    element("b", { text: rowName(row) }), `${{ FAIL: "failed", PRUNED: "stopped" }[row.status]}, ${row.label} `, element("span", { text: row.reason }),
  ])));
}
