"use strict";
// What one sees, and how it stands in the address: a link to the page shows the same.
const tabled = data.axes.filter((axis) => /^(cost\/(macs|params)$|val\/|test\/|measured\/)/.test(axis.name)).map((axis) => axis.name);

function defaults() {
  const knee = numberOf(data.facts.knee);
  const first = knee >= 0 ? knee : data.rows.length ? 0 : -1;
  const metrics = Object.keys(data.curves.metrics);
  return {
    x: data.start[0], y: data.start[1], colour: "group", chosen: first, other: teacher >= 0 && teacher !== first ? teacher : -1,
    sort: "trial_id", ascending: true, hidden: [], ranges: [], zoom: null, within: 5, budget: kneeBudget(knee),
    columns: tabled.slice(0, 12), delta: false, bars: false,
    metric: data.start.find((name) => metrics.includes(name)) ?? metrics[0] ?? "",
  };
}

/** Two digits, not below what the knee costs: a budget that shows what the answer is like. */
function kneeBudget(knee) {
  const cost = knee < 0 ? null : valueOf(knee, data.start[0]);
  if (typeof cost !== "number" || cost <= 0 || axes.get(data.start[0]).better !== "min") return null;
  const unit = 10 ** (Math.floor(Math.log10(cost)) - 1);
  return Math.ceil(cost / unit) * unit;
}

const DEFAULTS = defaults();
const state = { ...DEFAULTS };
let allRows = false;

const isAxis = (name) => (axes.has(name) ? name : undefined);
const number = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined);
const trialNumber = (text) => (numberOf(text) >= 0 ? numberOf(text) : undefined);

/** Key in the address -> field of the state, how it is written, and how it is read; undefined: not valid. */
const FIELDS = {
  x: ["x", String, isAxis],
  y: ["y", String, isAxis],
  colour: ["colour", String, (text) => (text === "group" ? text : isAxis(text))],
  trial: ["chosen", (value) => data.rows[value]?.trial_id ?? "", trialNumber],
  with: ["other", (value) => data.rows[value]?.trial_id ?? "", trialNumber],
  hide: ["hidden", (value) => value.join(","), (text) => text.split(",").filter((group) => group in data.marks)],
  under: ["budget", (value) => (value === null ? "none" : String(value)), (text) => (text === "none" ? null : number(text))],
  within: ["within", String, number],
  sort: ["sort", String, (text) => (columnsOf().some((column) => column.key === text) ? text : undefined)],
  order: ["ascending", (value) => (value ? "up" : "down"), (text) => ({ up: true, down: false })[text]],
  columns: ["columns", (value) => value.join(","), (text) => text.split(",").filter(isAxis)],
  ranges: ["ranges", writeRanges, readRanges],
  zoom: ["zoom", (value) => (value === null ? "none" : value.map((end) => Number(end.toPrecision(6))).join(",")), readZoom],
  metric: ["metric", String, (text) => (text in data.curves.metrics ? text : undefined)],
  delta: ["delta", Number, (text) => text === "1"],
  bars: ["bars", Number, (text) => text === "1"],
};

/** Each range is name:low:high, an open end is empty. */
function writeRanges(ranges) {
  return ranges.map(({ name, low, high }) => `${name}:${low ?? ""}:${high ?? ""}`).join(";");
}

function readRanges(text) {
  const end = (part) => number(part ?? "") ?? null;
  return text.split(";").map((each) => each.split(":")).filter(([name]) => isAxis(name))
    .map(([name, low, high]) => ({ name, low: end(low), high: end(high) }));
}

function readZoom(text) {
  const ends = text.split(",").map(Number);
  return ends.length === 4 && ends.every(Number.isFinite) ? ends : undefined;
}

function writeState() {
  const parts = new URLSearchParams();
  for (const [key, [field, written]] of Object.entries(FIELDS)) {
    const [now, usual] = [written(state[field]), written(DEFAULTS[field])];
    if (String(now) !== String(usual)) parts.set(key, now);
  }
  const text = parts.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%2C", ",");
  history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
}

function readState() {
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const [key, [field, , read]] of Object.entries(FIELDS)) {
    const value = parts.has(key) ? read(parts.get(key)) : undefined;
    state[field] = value === undefined ? DEFAULTS[field] : value;
  }
}

/** Whether a trial is left by groups and ranges. Without a number, it is outside of every range. */
function passes(number) {
  const { group } = data.rows[number];
  if (group && state.hidden.includes(group)) return false;
  return state.ranges.every(({ name, low, high }) => {
    const value = valueOf(number, name);
    return typeof value === "number" && (low === null || value >= low) && (high === null || value <= high);
  });
}

const remaining = () => data.rows.map((_, number) => number).filter(passes);
