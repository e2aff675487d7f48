"use strict";
// "Which student?": the best under a budget, and the cheapest that is nearly as good as the teacher.

const sideOf = (name) => (axes.get(name)?.better === "max" ? 1 : -1);
const isCost = (name) => axes.get(name)?.cost;
const isBetter = (a, b, name) => sideOf(name) * (valueOf(a, name) - valueOf(b, name)) > 0;

/** Those that compete and have both numbers, as far as the filters leave them. */
function candidates() {
  return drawnOn(state.x, state.y).filter((number) => data.rows[number].competes);
}

/** The best of some trials by one number, by another where that is equal; -1: there are none. */
function bestOf(numbers, first, second) {
  const wins = (a, b) => isBetter(a, b, first) || (!isBetter(b, a, first) && isBetter(a, b, second));
  return numbers.reduce((best, number) => (best < 0 || wins(number, best) ? number : best), -1);
}

function withinBudget(number) {
  return sideOf(state.x) * (valueOf(number, state.x) - state.budget) >= 0;
}

/** At most so many percent of the teacher's size worse than the teacher. */
function nearTeacher(number) {
  const there = valueOf(teacher, state.y);
  return sideOf(state.y) * (valueOf(number, state.y) - there) >= (-Math.abs(there) * state.within) / 100;
}

/** Other trials whose intervals overlap with one's: the data do not say which of them is better. */
function alike(best, numbers) {
  const own = interval(best, state.y);
  return own ? numbers.filter((number) => number !== best && overlap(own, interval(number, state.y))) : [];
}

/** What the best by the x axis is called: a sweep without a cost has a score there. */
function leastOf(name) {
  if (isCost(name)) return "Cheapest";
  return `${sideOf(name) > 0 ? "Highest" : "Lowest"} ${titleOf(name)}`;
}

function linkTo(number) {
  return element("button", { type: "button", className: "link", text: rowName(data.rows[number]), onclick: () => choose(number) });
}

function described(number) {
  return [state.x, state.y].map((name) => {
    const delta = toTeacher(number, name);
    return `${titleOf(name)} ${shown(valueOf(number, name))}${delta ? ` (to the teacher ${delta})` : ""}`;
  }).join(", ");
}

function certainty(best, numbers) {
  if (!data.intervals[state.y]) return [" No interval is recorded, so a close rival may be as good."];
  const rivals = alike(best, numbers);
  if (!rivals.length) return interval(best, state.y) ? [" No other interval overlaps with its own."] : [" It has no interval."];
  const few = rivals.slice(0, 5).flatMap((number, index) => [index ? ", " : "", linkTo(number)]);
  return [" Not told apart from ", ...few, rivals.length > 5 ? ` and ${rivals.length - 5} more: the intervals overlap.` : ": the intervals overlap."];
}

function answer(head, best, numbers, otherwise) {
  if (best < 0) return element("li", {}, [head, otherwise]);
  return element("li", {}, [head, linkTo(best), `: ${described(best)}.`, ...certainty(best, numbers)]);
}

function drawAnswers() {
  const { x, y } = state;
  const sided = [x, y].every((name) => axes.get(name)?.better) && x !== y;
  byId("budget-title").textContent = `budget, ${axes.has(x) ? `${axes.get(x).better === "max" ? "at least" : "at most"} (${titleOf(x)})` : ""}`;
  if (!sided) {
    byId("answers").replaceChildren(element("li", { text: "Choose two axes that have a better side: a cost and a score." }));
    return;
  }
  const [all, items] = [candidates(), []];
  if (state.budget !== null) {
    const inside = all.filter(withinBudget);
    const side = axes.get(x).better === "max" ? "with at least" : "under";
    items.push(answer(`Best ${side} ${scaled(state.budget, 3)}: `, bestOf(inside, y, x), inside, "no student, of those shown."));
  }
  if (teacher >= 0 && typeof valueOf(teacher, y) === "number") {
    const near = all.filter(nearTeacher);
    const best = bestOf(all, y, x);
    const closest = best < 0 ? "" : ` The best is ${rowName(data.rows[best])}: ${toTeacher(best, y)}.`;
    const head = `${leastOf(x)} within ${shown(state.within)} % of the teacher${isCost(x) ? "" : `'s ${titleOf(y)}`}: `;
    items.push(answer(head, bestOf(near, x, y), near, `no student, of those shown.${closest}`));
  } else {
    items.push(element("li", { text: "The teacher has no number on the y axis to compare with." }));
  }
  byId("answers").replaceChildren(...items);
}

// ---- filters

function drawGroups() {
  const present = Object.keys(data.marks).filter((group) => data.rows.some((row) => row.group === group));
  const boxes = present.map((group) => element("label", {}, [
    element("input", { type: "checkbox", checked: !state.hidden.includes(group), onchange: () => toggleGroup(group) }), ` ${data.marks[group].title}`,
  ]));
  byId("groups").replaceChildren(byId("groups").firstElementChild, ...boxes);
}

function toggleGroup(group) {
  state.hidden = state.hidden.includes(group) ? state.hidden.filter((each) => each !== group) : [...state.hidden, group];
  filtersChanged();
}

function drawRanges() {
  byId("range-list").replaceChildren(...state.ranges.map((range, index) => element("button", {
    type: "button", className: "plain", text: `${titleOf(range.name)}: ${shown(range.low)} to ${shown(range.high)} ×`, title: "remove this filter",
    onclick: () => { state.ranges = state.ranges.filter((_, other) => other !== index); filtersChanged(); },
  })));
}

function addRange() {
  const [low, high] = ["range-low", "range-high"].map((id) => parsed(byId(id).value));
  if (low === null && high === null) return;
  const name = byId("range-axis").value;
  state.ranges = [...state.ranges.filter((range) => range.name !== name), { name, low, high }];
  filtersChanged();
}

function filtersChanged() {
  drawGroups();
  drawRanges();
  drawAll();
}
