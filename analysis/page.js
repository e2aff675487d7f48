"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const axes = new Map(data.axes.map((axis) => [axis.name, axis]));
const dark = matchMedia("(prefers-color-scheme: dark)");
const byId = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 820px)");
const CLEAR = "rgba(0,0,0,0)";
const state = { chosen: -1, sort: "trial_id", ascending: true };

// ---- small things ----------------------------------------------------------------------------------------------------

/** An element with text and children; text is never read as HTML. */
function element(tag, { text, ...properties } = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

/** 2400000000 -> "2.4 G" */
function scaled(value, digits) {
  const [size, letter] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  return `${Number((value / size).toPrecision(digits))} ${letter}`.trim();
}

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  return Math.abs(value) < 1e4 ? String(Number(value.toPrecision(4))) : scaled(value, 3);
}

/** Plotly reads some tags in its texts: leave none. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const markColour = (group) => data.marks[group][dark.matches ? "dark" : "light"];
const definitions = (entries) => entries.flatMap(([key, value]) => [element("dt", { text: key }), element("dd", { text: shown(value) })]);
const values = (rows, name) => rows.map((row) => row.values[name]);
const replicated = (row) => data.rows.some((other) => other !== row && other.trial_id === row.trial_id);
const rowName = (row) => row.trial_id + (replicated(row) ? ` seed ${row.seed}` : "");

function fillSelect(id, names, chosen, change) {
  const options = names.map((name) => element("option", { text: axes.get(name)?.title ?? name, value: name }));
  byId(id).replaceChildren(...options);
  byId(id).value = chosen;
  byId(id).addEventListener("change", change);
}

// ---- plots -----------------------------------------------------------------------------------------------------------

/** 1, 2, 5 of each decade, only 1 where there are many decades. */
function logTicks(values) {
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
  const decades = Array.from({ length: high - low + 1 }, (_, step) => low + step);
  const tickvals = decades.flatMap((decade) => (high - low > 4 ? [1] : [1, 2, 5]).map((digit) => digit * 10 ** decade));
  return { type: "log", tickvals, ticktext: tickvals.map((value) => scaled(value, 3).replace(" ", "")), tickangle: 0 };
}

function axisLayout(axis, values) {
  const ticks = axis.log && values.length ? logTicks(values) : {};
  return {
    title: { text: plain(axis.title), font: { size: 13 }, standoff: 10 }, automargin: true, zeroline: false,
    gridcolor: colour("--grid"), linecolor: colour("--line"),
    tickfont: { color: colour("--soft"), size: 12 }, exponentformat: "SI", ...ticks,
  };
}

function layout(xaxis, yaxis) {
  return {
    xaxis, yaxis, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, margin: { l: 8, r: 12, t: 16, b: 8 },
    hovermode: "closest", dragmode: narrow.matches ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("--ink"), size: 12 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 }, align: "left" },
    modebar: { bgcolor: CLEAR, color: colour("--line"), activecolor: colour("--accent") },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 12 } },
  };
}

const config = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

function hover(row, names) {
  const lines = [`<b>${plain(rowName(row))}</b> ${plain(row.label)}`];
  for (const name of names) lines.push(`${plain(axes.get(name).title)}  ${plain(shown(row.values[name]))}`);
  for (const [path, value] of Object.entries(row.params)) lines.push(`${plain(path)} = ${plain(shown(value))}`);
  return lines.join("<br>");
}

function markers(group, numbers, x, y, members) {
  const rows = numbers.map((number) => data.rows[number]);
  const inside = numbers.map((number) => members.has(number));
  const size = group === "teacher" ? 4 : 0;
  return {
    type: "scatter", mode: "markers", name: plain(data.marks[group].title), customdata: numbers,
    x: values(rows, x), y: values(rows, y), hoverinfo: "text", hovertext: rows.map((row) => hover(row, [x, y])),
    marker: {
      symbol: data.marks[group].symbol, color: markColour(group), size: inside.map((member) => size + (member ? 12 : 9)), opacity: 1,
      line: { width: inside.map((member) => (member ? 1.6 : 0.8)), color: inside.map((member) => colour(member ? "--ink" : "--card")) },
    },
  };
}

/** The step line of the embedded front; where there is room, each member's id on the side where nothing better lies. */
function frontLine(numbers, x, y) {
  const rows = numbers.map((number) => data.rows[number]);
  rows.sort((a, b) => a.values[x] - b.values[x] || a.values[y] - b.values[y]);
  const side = (axes.get(y).better === "max" ? "top " : "bottom ") + (axes.get(x).better === "min" ? "left" : "right");
  return {
    type: "scatter", mode: narrow.matches ? "lines" : "lines+markers+text", name: "front", hoverinfo: "skip",
    x: values(rows, x), y: values(rows, y), cliponaxis: false,
    text: rows.map((row) => plain(row.trial_id)), textposition: side, textfont: { size: 11, color: colour("--soft") },
    marker: { color: CLEAR, size: 11 }, line: { shape: axes.get(x).better === "min" ? "hv" : "vh", color: colour("--ink"), width: 1.3 },
  };
}

function chosenRing(x, y) {
  const row = data.rows[state.chosen];
  return {
    type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, x: [row.values[x]], y: [row.values[y]],
    marker: { symbol: "circle-open", size: 21, color: colour("--accent"), line: { width: 2 } },
  };
}

/** The evaluator's mIoU on real pictures, where an axis shows an mIoU. */
function ceilingLine(x, y, rows) {
  const ends = (name) => [Math.min, Math.max].map((end) => end(...values(rows, name)));
  const level = [data.ceiling, data.ceiling];
  if (data.ceiling === null || rows.length === 0 || ![x, y].some((name) => name.endsWith("/miou"))) return [];
  return [{
    type: "scatter", mode: "lines+markers", name: "evaluator on real pictures", hoverinfo: "skip", marker: { color: CLEAR, size: 9 },
    ...(y.endsWith("/miou") ? { x: ends(x), y: level } : { x: level, y: ends(y) }),
    line: { color: colour("--soft"), width: 1.3, dash: "dash" },
  }];
}

function drawFront() {
  const [x, y] = [byId("x").value, byId("y").value];
  byId("front-plot").hidden = axes.size === 0;
  byId("front-note").textContent = "No trial has finished yet.";
  if (axes.size === 0) return;
  const front = data.fronts[`${x}|${y}`];
  const members = new Set(front ?? []);
  const drawn = data.rows.flatMap((row, number) => (row.group && row.values[x] !== null && row.values[y] !== null ? [number] : []));
  const traces = front?.length ? [frontLine(front, x, y)] : [];
  for (const group of Object.keys(data.marks)) {
    const numbers = drawn.filter((number) => data.rows[number].group === group);
    if (numbers.length) traces.push(markers(group, numbers, x, y, members));
  }
  if (drawn.includes(state.chosen)) traces.push(chosenRing(x, y));
  traces.push(...ceilingLine(x, y, drawn.map((number) => data.rows[number])));
  const [across, up] = [x, y].map((name) => axisLayout(axes.get(name), values(drawn.map((number) => data.rows[number]), name)));
  Plotly.react("front-plot", traces, layout(across, up), config);
  byId("front-note").textContent = front
    ? `Front of these two axes: ${front.length} ${front.length === 1 ? "trial" : "trials"}. The teacher and repeated trials do not compete.`
    : "No front: the axes are the same, or one of them has no better side.";
}

function drawCurves() {
  const metric = byId("metric").value;
  const weight = (curve) => (curve.row === state.chosen ? 2 : data.rows[curve.row].member ? 1 : 0);
  const curves = [...data.curves[metric]].sort((a, b) => weight(a) - weight(b));
  const traces = curves.map((curve) => {
    const row = data.rows[curve.row];
    const lit = weight(curve) > 0;
    const name = `<b>${plain(rowName(row))}</b> ${plain(row.label)}`;
    return {
      type: "scatter", mode: "lines+markers", showlegend: false, customdata: curve.x.map(() => curve.row), x: curve.x, y: curve.y,
      line: { color: lit ? markColour(row.group || "recheck") : colour("--soft"), width: [1, 1.8, 3.5][weight(curve)] },
      marker: { size: 4 }, opacity: lit ? 1 : 0.55,
      hoverinfo: "text", hovertext: curve.x.map((nimg, index) => `${name}<br>${shown(curve.y[index])} at ${shown(nimg)} images`),
    };
  });
  const xaxis = axisLayout({ title: "images", log: false });
  Plotly.react("curves-plot", traces, layout(xaxis, axisLayout({ title: axes.get(metric)?.title ?? metric, log: false })), config);
}

// ---- the rest of the page --------------------------------------------------------------------------------------------

/** What the columns of a sample grid are. */
function caption(row) {
  const columns = row.role === "teacher" || row.role === "no_teacher" ? "input, target, output" : "input, target, teacher, student";
  return element("p", { className: "note", text: `${columns}; val pictures` });
}

function drawDetails() {
  const row = data.rows[state.chosen];
  const place = row.dominator ? `dominated by ${row.dominator}` : row.member ? "on the front" : "";
  const tags = [row.status.toLowerCase(), row.role.replace("_", " "), place].filter(Boolean);
  const numbers = data.axes.map((axis) => [axis.title, row.values[axis.name]]).filter(([, value]) => value !== null);
  const progress = row.nimg === null ? [] : [["images", `${row.nimg.toLocaleString("en")} of ${row.budget_nimg.toLocaleString("en")}`]];
  const params = Object.entries(row.params).map(([path, value]) => [path.replace(/^student\.(generator\.)?/, ""), value]);
  const picture = data.samples[row.trial_id];
  byId("details").replaceChildren(
    element("p", { className: "note", text: "chosen trial" }), element("h3", { text: `${rowName(row)} · ${row.label}` }),
    ...tags.map((text) => element("span", { className: "tag", text })),
    ...(row.reason ? [element("p", { className: "note", text: row.reason })] : []),
    ...(picture ? [element("img", { src: picture, alt: `samples of trial ${row.trial_id}` }), caption(row)] : []),
    element("dl", {}, definitions([...params, ...numbers, ...progress])),
    ...measuredLater(row),
  );
}

/** What was measured of a trial after the sweep, with when and how. */
function measuredLater(row) {
  if (row.measured.length === 0) return [];
  const interval = (each) => (each.low === null ? "" : ` (${shown(each.low)} to ${shown(each.high)})`);
  const value = (each) => (each.value === null ? "infinite" : shown(each.value)) + interval(each);
  const said = [...new Set(row.measured.map((each) => `${each.when}: ${each.how}`))].sort();
  const entries = row.measured.flatMap((each) => [
    element("dt", { text: each.name, title: each.conditions }), element("dd", { text: value(each), title: `${each.when}: ${each.how}` }),
  ]);
  return [
    element("h3", { className: "later", text: "measured later" }), element("dl", {}, entries),
    ...said.map((text) => element("p", { className: "note said", text })),
  ];
}

const textColumns = [["trial_id", "trial"], ["label", "label"], ["role", "role"], ["status", "status"]];
const tabled = data.axes.filter((axis) => /^(cost|val|test|time|measured)\//.test(axis.name));
const columns = [
  ...textColumns.map(([key, title]) => ({ key, title, text: true, of: (row) => row[key] })),
  ...tabled.map((axis) => ({ key: axis.name, title: axis.title, of: (row) => row.values[axis.name] })),
  { key: "contribution", title: "hypervolume contribution", of: (row) => row.contribution },
  { key: "rank", title: "rank", of: (row) => row.rank },
  ...(data.rows.some((row) => row.seeds !== null)
    ? [{ key: "seeds", title: "seeds", of: (row) => row.seeds }, { key: "probability", title: "P(on the front)", of: (row) => row.probability }]
    : []),
  { key: "seed", title: "seed", of: (row) => row.seed },
];

/** Missing values last, whichever way the column is sorted. */
function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return (a < b ? -1 : a > b ? 1 : 0) * (state.ascending ? 1 : -1);
}

function sortBy(key) {
  state.ascending = state.sort === key ? !state.ascending : true;
  state.sort = key;
  drawTable();
}

function drawTable() {
  const sorting = columns.find((column) => column.key === state.sort);
  byId("columns").replaceChildren(element("tr", {}, columns.map((column) => {
    const button = element("button", { text: column.title, onclick: () => sortBy(column.key) });
    const direction = state.ascending ? "ascending" : "descending";
    const properties = { className: column.text ? "text" : "", scope: "col", ariaSort: column === sorting ? direction : "none" };
    return element("th", properties, [button]);
  })));
  const numbers = data.rows.map((_, number) => number).sort((a, b) => compare(sorting.of(data.rows[a]), sorting.of(data.rows[b])) || a - b);
  byId("trials").replaceChildren(...numbers.map((number) => {
    const row = data.rows[number];
    const cells = columns.map((column) => element("td", { className: column.text ? "text" : "", text: shown(column.of(row)) }));
    cells[0].replaceChildren(element("button", { text: row.trial_id, onclick: () => choose(number) }));
    const classes = [row.member && "member", number === state.chosen && "chosen", row.status !== "COMPLETE" && "idle"];
    return element("tr", { className: classes.filter(Boolean).join(" ") }, cells);
  }));
}

function drawSummary() {
  const count = (test) => data.rows.filter(test).length;
  const parts = [`${data.rows.length} ${data.rows.length === 1 ? "trial" : "trials"}`, `${count((row) => row.member)} on the front`];
  for (const status of ["PRUNED", "FAIL", "RUNNING"]) {
    const number = count((row) => row.status === status);
    if (number) parts.push(`${number} ${{ PRUNED: "stopped early", FAIL: "failed", RUNNING: "running" }[status]}`);
  }
  byId("summary").textContent = parts.join(" · ");
  byId("facts").replaceChildren(...Object.entries(data.facts).map((entry) => element("div", {}, definitions([entry]))));
  const failed = data.rows.filter((row) => row.status === "FAIL");
  byId("failures").hidden = failed.length === 0;
  byId("failures").querySelector("ul").replaceChildren(...failed.map((row) => element("li", {}, [
    element("b", { text: rowName(row) }), `${row.label} `, element("span", { text: row.reason }),
  ])));
}

function choose(number) {
  state.chosen = number;
  drawAll();
}

function drawAll() {
  drawFront();
  drawTable();
  if (state.chosen >= 0) drawDetails();
  if (byId("metric").value) drawCurves();
}

function start() {
  const metrics = Object.keys(data.curves);
  fillSelect("x", [...axes.keys()], data.start[0], drawFront);
  fillSelect("y", [...axes.keys()], data.start[1], drawFront);
  fillSelect("metric", metrics, data.start.find((name) => metrics.includes(name)) ?? metrics[0], drawCurves);
  byId("curves").hidden = metrics.length === 0;
  drawSummary();
  const knee = data.rows.findIndex((row) => row.trial_id === data.facts.knee);
  state.chosen = knee >= 0 ? knee : data.rows.length ? 0 : -1;
  drawAll();
  for (const id of ["front-plot", "curves-plot"]) {
    byId(id).on?.("plotly_click", (event) => event.points[0].customdata !== undefined && choose(event.points[0].customdata));
  }
  dark.addEventListener("change", drawAll);
}

start();
