"use strict";
// Two trials: their pictures over each other or side by side, and their numbers.

function pictured() {
  return data.rows.map((_, number) => number).filter((number) => data.samples[data.rows[number].trial_id] || data.beside[data.rows[number].trial_id]);
}

function fillCompare() {
  const numbers = pictured();
  byId("compare").hidden = data.rows.length < 2;
  const options = () => data.rows.map((row, number) => element("option", {
    value: number, text: `${rowName(row)} ${row.label}${numbers.includes(number) ? "" : " (no picture)"}`,
  }));
  for (const [id, field] of [["left", "chosen"], ["right", "other"]]) {
    byId(id).replaceChildren(...(field === "other" ? [element("option", { value: -1, text: "–" })] : []), ...options());
    byId(id).addEventListener("change", () => (field === "chosen" ? choose(Number(byId(id).value)) : chooseOther(Number(byId(id).value))));
  }
  for (const id of ["size", "view"]) byId(id).addEventListener("change", drawPictures);
  byId("slide").addEventListener("input", slide);
}

function chooseOther(number) {
  state.other = number;
  drawCompare();
  writeState();
}

/** Shows the left picture up to the slider, the right one beyond. */
function slide() {
  const over = byId("pictures").querySelector(".stack img + img");
  if (over) over.style.clipPath = `inset(0 0 0 ${byId("slide").value}%)`;
}

/** Gives pictures the size asked for, in pixels of their own, once they are there. */
function enlarge(image) {
  const grow = () => {
    image.style.width = `${image.naturalWidth * Number(byId("size").value)}px`;
    const first = byId("pictures").querySelector(".stack img");
    if (first && image !== first && first.naturalWidth) image.style.width = first.style.width;
  };
  image.addEventListener("load", grow);
  if (image.complete) grow();
  return image;
}

function drawPictures() {
  const numbers = [state.chosen, state.other].filter((number) => number >= 0);
  const images = numbers.map((number) => pictureOf(number, { missing: missingPicture })).map((image) => image && enlarge(image));
  const [left, right] = numbers.map((number) => columnsOfPicture(data.rows[number]));
  const both = images.length === 2 && images.every(Boolean);
  const stacked = both && byId("view").value === "slider" && left === right;
  byId("slide-label").hidden = !stacked;
  byId("compare-note").textContent = !both ? "A picture of one of them is missing." : left !== right
    ? `Side by side: the left picture has ${left}, the right one ${right}.`
    : `${left}; val pictures. ${stacked ? "Left of the slider: the left trial." : ""}`;
  const figures = images.map((image, index) => element("figure", {}, [
    element("figcaption", { text: rowName(data.rows[numbers[index]]) }), ...(image ? [image] : []),
  ]));
  byId("pictures").replaceChildren(element("div", { className: stacked ? "stack" : "sides" }, stacked ? images : figures));
  slide();
}

function drawDifferences() {
  const [left, right] = [state.chosen, state.other];
  if (right < 0) return byId("differences").replaceChildren();
  const head = ["", rowName(data.rows[left]), rowName(data.rows[right]), "right less left", "intervals"];
  const lines = data.axes.map(({ name, title }) => {
    const [a, b] = [valueOf(left, name), valueOf(right, name)];
    const difference = typeof a === "number" && typeof b === "number" ? signed(b - a) : a === b ? "same" : "differs";
    const [mine, other] = [interval(left, name), interval(right, name)];
    const told = mine && other ? (overlap(mine, other) ? "overlap" : "apart") : "not recorded";
    return element("tr", {}, [element("th", { scope: "row", text: title }), ...[shown(a), shown(b), difference, told].map((text) => element("td", { text }))]);
  });
  const heads = element("tr", {}, head.map((text) => element("th", { scope: "col", text })));
  byId("differences").replaceChildren(element("thead", {}, [heads]), element("tbody", {}, lines));
}

function drawCompare() {
  if (state.chosen < 0) return;
  byId("left").value = state.chosen;
  byId("right").value = state.other;
  drawPictures();
  drawDifferences();
}
