"use strict";
// Small things that all other scripts use: elements, and numbers in words.
const data = JSON.parse(document.getElementById("data").textContent);
const axes = new Map(data.axes.map((axis) => [axis.name, axis]));
const byId = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 820px)");
const CLEAR = "rgba(0,0,0,0)";

/** An element with text and children; text is never read as HTML. */
function element(tag, { text, ...properties } = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

/** 2400000000 -> "2.4 G" */
function scaled(value, digits) {
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, letter] = units.find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  return `${Number((value / size).toPrecision(digits))} ${letter}`.trim();
}

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  return Math.abs(value) < 1e4 ? String(Number(value.toPrecision(4))) : scaled(value, 3);
}

const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + shown(Math.abs(value));

/** "2.5 G" -> 2500000000; null where it is no number. */
function parsed(text) {
  const match = /^\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([kMGT]?)\s*$/i.exec(text);
  const value = match ? Number(match[1]) * ({ k: 1e3, m: 1e6, g: 1e9, t: 1e12 }[match[2].toLowerCase()] ?? 1) : NaN;
  return Number.isFinite(value) ? value : null;
}

/** Plotly reads some tags in its texts: leave none. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const markColour = (group) => data.marks[group][dark.matches ? "dark" : "light"];
const titleOf = (name) => axes.get(name)?.title ?? name;
const valueOf = (number, name) => data.values[name]?.[number] ?? null;
const definitions = (entries) =>
  entries.flatMap(([key, value]) => [element("dt", { text: key }), element("dd", {}, [value].flat())]);

const ids = new Map();
for (const row of data.rows) ids.set(row.trial_id, (ids.get(row.trial_id) ?? 0) + 1);
const rowName = (row) => row.trial_id + (ids.get(row.trial_id) > 1 ? ` seed ${row.seed}` : "");
const numberOf = (trial) => data.rows.findIndex((row) => row.trial_id === trial);
const teacher = data.rows.findIndex((row) => row.role === "teacher" && row.status === "COMPLETE");

/** A trial's number less the teacher's, in words; "" where there is none to compare. */
function toTeacher(number, name) {
  const [own, other] = [valueOf(number, name), teacher < 0 ? null : valueOf(teacher, name)];
  if (number === teacher || typeof own !== "number" || typeof other !== "number") return "";
  const share = other !== 0 && /^cost\/|^memory\/|latency/.test(name) ? `, ${Number(((100 * own) / other).toPrecision(3))} %` : "";
  return `${signed(own - other)}${share}`;
}

/** The 95 % interval of a trial's number; null where none is recorded. */
function interval(number, name) {
  const all = data.intervals[name];
  return all && all.low[number] !== null ? [all.low[number], all.high[number]] : null;
}

const overlap = (a, b) => a !== null && b !== null && a[0] <= b[1] && b[0] <= a[1];

function fillSelect(id, names, chosen, change) {
  byId(id).replaceChildren(...names.map((name) => element("option", { text: titleOf(name), value: name })));
  byId(id).value = chosen;
  byId(id).addEventListener("change", () => change(byId(id).value));
}
