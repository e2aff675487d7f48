"use strict";
// Draws each figure, again where the page turns dark or light: text, grid and colours of sides follow.
const figures = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function recoloured(value, colours) {
  if (typeof value === "string") return colours[value] || value;
  if (Array.isArray(value)) return value.map(each => recoloured(each, colours));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, recoloured(each, colours)]));
  }
  return value;
}

function draw() {
  const colours = dark.matches ? figures.dark : {};
  for (const [id, figure] of Object.entries(figures.plots)) {
    const { data, layout } = recoloured(figure, colours);
    Plotly.react(id, data, layout, { responsive: true, displaylogo: false });
  }
}

dark.addEventListener("change", draw);
draw();
