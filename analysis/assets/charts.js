"use strict";
// What all plots share: axes, layout, and Plotly, which is unpacked here.

/** Runs the embedded Plotly; resolves when it is there. */
async function loadPlotly() {
  const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(element("script", { text: await new Response(stream).text() }));
  byId("plotly").remove();
}

/** 1, 2, 5 of each decade, only 1 where there are many decades. */
function logTicks(values) {
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
  const decades = Array.from({ length: high - low + 1 }, (_, step) => low + step);
  const tickvals = decades.flatMap((decade) => (high - low > 4 ? [1] : [1, 2, 5]).map((digit) => digit * 10 ** decade));
  const spelled = (value) => (value < 0.01 ? value.toExponential(0) : scaled(value, 3).replace(" ", ""));
  return { type: "log", tickvals, ticktext: tickvals.map(spelled), tickangle: 0 };
}

function axisLayout(axis, values) {
  const ticks = axis.log && values?.length ? logTicks(values) : axis.texts ? { type: "category" } : {};
  return {
    title: { text: plain(axis.title), font: { size: 13 }, standoff: 10 }, automargin: true, zeroline: false,
    gridcolor: css("--grid"), linecolor: css("--line"),
    tickfont: { color: css("--soft"), size: 12 }, exponentformat: "SI", ...ticks,
  };
}

function layout(xaxis, yaxis, further = {}) {
  return {
    xaxis, yaxis, paper_bgcolor: CLEAR, plot_bgcolor: CLEAR, margin: { l: 8, r: 12, t: 16, b: 8 },
    hovermode: "closest", dragmode: narrow.matches ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, color: css("--ink"), size: 12 },
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 12 }, align: "left" },
    modebar: { bgcolor: CLEAR, color: css("--soft"), activecolor: css("--accent") },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 12 } },
    ...further,
  };
}

const config = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };

const drawWhenSeen = new Map();
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !seen.has(target.id)) {
      seen.add(target.id);
      drawWhenSeen.get(target.id)();
    }
  }
}, { rootMargin: "200px" });

/** Draws a plot when its section comes into view, so that the page is ready before all of it is drawn. */
function whenSeen(id, draw) {
  drawWhenSeen.set(id, draw);
  watcher.observe(byId(id));
}

/** Draws again those plots that have been seen. */
const redrawSeen = () => seen.forEach((id) => drawWhenSeen.get(id)());
