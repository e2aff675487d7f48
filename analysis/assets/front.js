"use strict";
// The plot of the front.

/** Row numbers of the front of two axes; undefined: it has none. */
const frontOf = (x, y) => data.fronts[`${x}|${y}`] ?? data.fronts[`${y}|${x}`];
const drawnOn = (x, y) => remaining().filter((number) => data.rows[number].group && valueOf(number, x) !== null && valueOf(number, y) !== null);
const column = (numbers, name) => numbers.map((number) => valueOf(number, name));

function hover(number, names) {
  const row = data.rows[number];
  const lines = [`<b>${plain(rowName(row))}</b> ${plain(row.label)}`];
  for (const name of new Set(names)) {
    const [given, delta] = [interval(number, name), toTeacher(number, name)];
    const between = given ? ` (${shown(given[0])} to ${shown(given[1])})` : "";
    lines.push(`${plain(titleOf(name))}  ${plain(shown(valueOf(number, name)))}${between}${delta ? `, to the teacher ${plain(delta)}` : ""}`);
  }
  return lines.join("<br>");
}

/** Error bars of an axis for those trials that show them. */
function errorBars(numbers, name, members) {
  if (!data.intervals[name]) return undefined;
  const ends = numbers.map((number) => (state.bars || members.has(number) || number === state.chosen ? interval(number, name) : null));
  return {
    type: "data", symmetric: false, thickness: 1, width: 3, color: css("--soft"),
    array: ends.map((each, index) => (each ? each[1] - valueOf(numbers[index], name) : null)),
    arrayminus: ends.map((each, index) => (each ? valueOf(numbers[index], name) - each[0] : null)),
  };
}

function fillColour(group, numbers) {
  if (state.colour === "group") return { color: markColour(group) };
  const values = column(numbers, state.colour);
  const choices = choicesOf(state.colour);
  return { color: choices ? values.map((value) => (value === null ? null : choices.indexOf(String(value)))) : values, coloraxis: "coloraxis" };
}

/** The texts of a parameter of choices, sorted; null for numbers. */
function choicesOf(name) {
  if (!axes.get(name)?.texts) return null;
  return [...new Set(data.values[name].filter((value) => value !== null).map(String))].sort();
}

function markers(group, numbers, x, y, members) {
  const inside = numbers.map((number) => members.has(number));
  const size = group === "teacher" ? 4 : 0;
  return {
    type: "scatter", mode: "markers", name: plain(data.marks[group].title), customdata: numbers, meta: group,
    x: column(numbers, x), y: column(numbers, y), hoverinfo: "text", hovertext: numbers.map((number) => hover(number, [x, y])),
    error_x: errorBars(numbers, x, members), error_y: errorBars(numbers, y, members),
    marker: {
      symbol: data.marks[group].symbol, ...fillColour(group, numbers), size: inside.map((member) => size + (member ? 12 : 8)), opacity: 1,
      line: { width: inside.map((member) => (member ? 1.6 : 0.6)), color: inside.map((member) => css(member ? "--ink" : "--card")) },
    },
  };
}

/** Whether the intervals of two trials overlap on an axis that has any. */
const apart = (a, b, names) => names.some((name) => data.intervals[name] && !overlap(interval(a, name), interval(b, name)));

/** The steps of the front; where the intervals of neighbours overlap, their order proves nothing: dotted. */
function frontLines(front, x, y) {
  const numbers = [...front].sort((a, b) => valueOf(a, x) - valueOf(b, x) || valueOf(a, y) - valueOf(b, y));
  const measured = [x, y].filter((name) => data.intervals[name]);
  const pairs = numbers.slice(1).map((number, index) => [numbers[index], number]);
  const unsure = pairs.filter(([a, b]) => measured.length && !apart(a, b, measured));
  const sure = pairs.filter((pair) => !unsure.includes(pair));
  const line = (parts, dash, name) => ({
    type: "scatter", mode: "lines", name, hoverinfo: "skip", cliponaxis: false,
    x: parts.flatMap((pair) => [...column(pair, x), null]), y: parts.flatMap((pair) => [...column(pair, y), null]),
    line: { shape: axes.get(x).better === "min" ? "hv" : "vh", color: css(dash ? "--soft" : "--ink"), width: dash ? 1 : 1.3, dash: dash ?? "solid" },
  });
  const lines = [...(sure.length ? [line(sure, null, "front")] : []), ...(unsure.length ? [line(unsure, "dot", "front, order not certain")] : [])];
  return { lines: [...lines, names(numbers, x, y)], pairs: pairs.length, unsure: unsure.length };
}

/** Which of some trials have room for their ids: each that is not close to the one before that has. */
function roomy(numbers, x, y) {
  const place = (name) => {
    const scale = (value) => (axes.get(name).log ? Math.log(value) : value);
    const all = numbers.map((number) => scale(valueOf(number, name)));
    const low = Math.min(...all), width = Math.max(...all) - low || 1;
    return all.map((value) => (value - low) / width);
  };
  const [across, up] = [place(x), place(y)];
  let last = -1;
  return numbers.map((_, index) => {
    const has = last < 0 || Math.abs(across[index] - across[last]) > 0.08 || Math.abs(up[index] - up[last]) > 0.05;
    if (has) last = index;
    return has;
  });
}

/** Each member's id on the side where nothing better lies, where there is room. */
function names(numbers, x, y) {
  const has = roomy(numbers, x, y);
  const side = (axes.get(y).better === "max" ? "top " : "bottom ") + (axes.get(x).better === "min" ? "left" : "right");
  return {
    type: "scatter", mode: narrow.matches || numbers.length > 40 ? "markers" : "markers+text", hoverinfo: "skip", showlegend: false, cliponaxis: false,
    x: column(numbers, x), y: column(numbers, y), text: numbers.map((number, index) => (has[index] ? plain(data.rows[number].trial_id) : "")),
    textposition: side, textfont: { size: 11, color: css("--soft") }, marker: { color: CLEAR, size: 11 },
  };
}

/** What the front reaches in a quarter, half and three quarters of draws of the true means. */
function attained(x, y) {
  const found = data.attainment;
  if (!found || !found.axes.includes(x) || !found.axes.includes(y) || x === y) return [];
  const at = [x, y].map((name) => found.axes.indexOf(name));
  return found.surfaces.map(({ percentile, points }) => {
    const sorted = points.map((point) => [point[at[0]], point[at[1]]]).sort((a, b) => a[0] - b[0]);
    return {
      type: "scatter", mode: "lines", hoverinfo: "skip", name: percentile === 50 ? "attained: median" : "attained: quartiles",
      legendgroup: percentile === 50 ? "median" : "quartiles", showlegend: percentile !== 75,
      x: sorted.map((point) => point[0]), y: sorted.map((point) => point[1]),
      line: { shape: axes.get(x).better === "min" ? "hv" : "vh", color: css("--accent"), width: percentile === 50 ? 1.4 : 0.9, dash: percentile === 50 ? "solid" : "dash" },
      opacity: 0.6,
    };
  });
}

function chosenRing(x, y) {
  const isDrawn = state.chosen >= 0 && passes(state.chosen) && valueOf(state.chosen, x) !== null && valueOf(state.chosen, y) !== null;
  return {
    type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false, meta: "chosen",
    x: isDrawn ? [valueOf(state.chosen, x)] : [], y: isDrawn ? [valueOf(state.chosen, y)] : [],
    marker: { symbol: "circle-open", size: 21, color: css("--accent"), line: { width: 2 } },
  };
}

/** The evaluator's mIoU on real pictures, where an axis shows an mIoU. */
function ceilingLine(x, y, numbers) {
  const ends = (name) => [Math.min, Math.max].map((end) => end(...column(numbers, name)));
  const level = [data.ceiling, data.ceiling];
  if (data.ceiling === null || numbers.length === 0 || ![x, y].some((name) => name.endsWith("/miou"))) return [];
  return [{
    type: "scatter", mode: "lines+markers", name: "evaluator on real pictures", hoverinfo: "skip", marker: { color: CLEAR, size: 9 },
    ...(y.endsWith("/miou") ? { x: ends(x), y: level } : { x: level, y: ends(y) }),
    line: { color: css("--soft"), width: 1.3, dash: "dash" },
  }];
}

function budgetShape() {
  if (state.budget === null || !axes.get(state.x)?.better) return [];
  return [{
    type: "line", x0: state.budget, x1: state.budget, yref: "paper", y0: 0, y1: 1, editable: true,
    line: { color: css("--accent"), width: 3, dash: "dashdot" }, label: { text: `budget ${scaled(state.budget, 3)}`, textposition: "end", textangle: 0, xanchor: "left", font: { size: 11, color: css("--accent") } },
  }];
}

function colourBar() {
  if (state.colour === "group") return {};
  const choices = choicesOf(state.colour);
  const ticks = choices ? { tickvals: choices.map((_, index) => index), ticktext: choices.map(plain) } : {};
  return { coloraxis: { colorscale: "Viridis", colorbar: { title: { text: plain(titleOf(state.colour)), side: "right" }, thickness: 12, outlinewidth: 0, ...ticks } } };
}

function frontLayout(x, y, drawn) {
  const ranges = state.zoom ? [state.zoom.slice(0, 2), state.zoom.slice(2)] : [undefined, undefined];
  const [across, up] = [x, y].map((name, index) => {
    const axis = axisLayout(axes.get(name), column(drawn, name));
    return ranges[index] ? { ...axis, range: ranges[index], autorange: false } : { ...axis, autorange: true };
  });
  return layout(across, up, { shapes: budgetShape(), ...colourBar() });
}

let frontDrawn = Promise.resolve();

function drawFront() {
  const { x, y } = state;
  byId("front-plot").hidden = axes.size === 0;
  byId("front-note").textContent = "No trial has finished yet.";
  if (axes.size === 0 || !window.Plotly) return;
  const front = frontOf(x, y)?.filter(passes);
  const members = new Set(front ?? []);
  const drawn = drawnOn(x, y);
  const steps = front?.length ? frontLines(front, x, y) : { lines: [], pairs: 0, unsure: 0 };
  const traces = [...attained(x, y), ...steps.lines];
  for (const group of Object.keys(data.marks)) {
    const numbers = drawn.filter((number) => data.rows[number].group === group);
    if (numbers.length) traces.push(markers(group, numbers, x, y, members));
  }
  traces.push(...ceilingLine(x, y, drawn), chosenRing(x, y));
  frontDrawn = Plotly.react("front-plot", traces, frontLayout(x, y, drawn), config);
  byId("front-note").textContent = frontNote(front, steps);
}

function frontNote(front, steps) {
  const { x, y } = state;
  const bars = [x, y].filter((name) => data.intervals[name]).map((name) => `Bars of ${titleOf(name)}: 95 % interval ${data.intervals[name].what}.`);
  const mixed = [x, y].filter((name) => axes.get(name).mixed).map((name) => `${titleOf(name)} was measured under different conditions.`);
  if (!front) return ["No front: the axes are the same, or one of them has no better side.", ...mixed, ...bars].join(" ");
  const count = `Front of these two axes: ${front.length} ${front.length === 1 ? "trial" : "trials"}. The teacher and repeated trials do not compete.`;
  const order = steps.unsure ? [`The intervals of ${steps.unsure} of ${steps.pairs} neighbouring pairs overlap: their order proves nothing (dotted).`] : [];
  const none = bars.length ? [] : ["No interval is recorded for these axes: small differences may be chance (--replicates measures it)."];
  const attainment = attained(x, y).length ? ["Attained: what the front reaches in 25, 50 and 75 % of draws of the true means."] : [];
  const fewer = front.length < frontOf(x, y).length ? [`The filters leave ${front.length} of the ${frontOf(x, y).length} members of the front of all trials.`] : [];
  return [count, ...fewer, ...order, ...bars, ...attainment, ...none].join(" ");
}

/** Moves the ring, and nothing else: a click is answered at once. */
function drawChosen() {
  const plot = byId("front-plot");
  const index = plot.data?.findIndex((trace) => trace.meta === "chosen") ?? -1;
  if (index < 0) return;
  const ring = chosenRing(state.x, state.y);
  Plotly.restyle(plot, { x: [ring.x], y: [ring.y] }, [index]);
}

/** Takes a zoom, or a budget line that was dragged. */
function frontMoved(event) {
  const { xaxis, yaxis } = byId("front-plot").layout;
  const dragged = event["shapes[0].x0"] ?? event["shapes[0].x1"];
  if (dragged !== undefined) {
    const moved = [event["shapes[0].x0"], event["shapes[0].x1"]].find((end) => end !== undefined && end !== state.budget);
    const low = Math.min(...column(drawnOn(state.x, state.y), state.x));
    state.budget = Number(Math.max(Number(moved ?? dragged), axes.get(state.x).log ? low / 10 : -Infinity).toPrecision(3));
    byId("budget").value = scaled(state.budget, 4);
    drawFront();
    drawAnswers();
  } else if (Object.keys(event).some((key) => /^[xy]axis\./.test(key))) {
    state.zoom = xaxis.autorange || yaxis.autorange ? null : [...xaxis.range, ...yaxis.range].map(Number);
  }
  writeState();
}

/** Chooses the next trial to the left or right. */
function stepChosen(step) {
  const numbers = drawnOn(state.x, state.y).sort((a, b) => valueOf(a, state.x) - valueOf(b, state.x));
  const at = numbers.indexOf(state.chosen);
  if (numbers.length) choose(numbers[Math.min(numbers.length - 1, Math.max(0, at + step))]);
}
