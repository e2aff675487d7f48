"use strict";
// The chosen trial: its picture, numbers, and the commands that go on with it.

/** What the columns of a grid of samples are. */
function columnsOfPicture(row) {
  return row.role === "teacher" || row.role === "no_teacher" ? "input, target, output" : "input, target, teacher, student";
}

/** Shows a trial's picture in an element: from within the page, or from beside it. */
function pictureOf(number, { className = "", missing }) {
  const { trial_id: trial } = data.rows[number];
  const source = data.samples[trial] ?? data.beside[trial];
  if (!source) return null;
  const image = element("img", { className, alt: `samples of trial ${trial}: ${columnsOfPicture(data.rows[number])}` });
  image.onerror = () => image.replaceWith(missing(trial));
  image.src = source;
  return image;
}

const missingPicture = (trial) => element("p", {
  className: "note", text: `The picture of ${trial} is not in the page: it is looked for beside it, in ${data.beside[trial]}, and is not there.`,
});

function numbersOf(number) {
  const entries = data.axes.filter(({ name }) => valueOf(number, name) !== null).map(({ name, title }) => {
    const [given, delta] = [interval(number, name), toTeacher(number, name)];
    const parts = [given ? `${shown(given[0])} to ${shown(given[1])}` : "", delta ? `to the teacher ${delta}` : ""].filter(Boolean);
    return [title.replace(/^param\/(student\.)?(generator\.)?/, ""), [shown(valueOf(number, name)), ...parts.map((text) => element("small", { text }))]];
  });
  const { nimg, budget_nimg: budget } = data.rows[number];
  if (nimg !== null && budget !== null) entries.push(["images", `${nimg.toLocaleString("en")} of ${budget.toLocaleString("en")}`]);
  return element("dl", {}, definitions(entries));
}

const quoted = (text) => (/^[\w./@%+=:,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The sweep's folder: where this page lies, or what it was called where it was drawn. */
function sweepFolder() {
  const isFile = location.protocol === "file:";
  return quoted(isFile ? decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "") : data.folder);
}

function commandsFor(row) {
  const [folder, trial] = [sweepFolder(), quoted(row.trial_id)];
  const isStudent = row.competes && row.role !== "no_teacher";
  return [
    [`raydistill export ${folder}/trials/${trial}`, "write it as ONNX, with a model card"],
    ...(isStudent ? [[`raydistill retrain ${folder} --trial ${Number(row.trial_id)} --nimg full`, "train it on more images"]] : []),
    [`raydistill evaluate ${folder}/trials/${trial} --split test`, "score it again, with intervals"],
    [`raydistill latency ${folder}/trials/${trial}`, "time it on this machine"],
    ...(row.role !== "teacher" ? [[`raydistill promote ${folder} --trial ${trial}`, "register its model in MLflow"]] : []),
  ];
}

function commands(row) {
  if (row.status !== "COMPLETE") return [];
  const blocks = commandsFor(row).map(([command, what]) => element("div", {}, [
    element("button", { type: "button", className: "link", text: "copy", ariaLabel: `copy the command: ${what}`, onclick: () => copyText(command, `copied: ${command}`) }),
    ` ${what}`, element("code", { text: command }),
  ]));
  return [element("details", {}, [element("summary", { text: "commands that go on with it" }), element("div", { className: "commands" }, blocks)])];
}

/** What was measured of a trial after the sweep, with when and how. */
function measuredLater(row) {
  if (row.measured.length === 0) return [];
  const between = (each) => (each.low === null ? "" : ` (${shown(each.low)} to ${shown(each.high)})`);
  const value = (each) => (each.value === null ? "infinite" : shown(each.value)) + between(each);
  const said = [...new Set(row.measured.map((each) => `${each.when}: ${each.how}`))].sort();
  const entries = row.measured.flatMap((each) => [
    element("dt", { text: each.name, title: each.conditions }), element("dd", { text: value(each), title: `${each.when}: ${each.how}` }),
  ]);
  return [
    element("h3", { text: "measured later" }), element("dl", {}, entries),
    ...said.map((text) => element("p", { className: "note said", text })),
  ];
}

function drawDetails() {
  if (state.chosen < 0) return;
  const row = data.rows[state.chosen];
  const place = row.dominator ? `dominated by ${row.dominator}` : row.member ? "on the front" : "";
  const tags = [row.status.toLowerCase(), row.role.replace("_", " "), place].filter(Boolean);
  const picture = pictureOf(state.chosen, { className: "grid", missing: missingPicture });
  byId("details").replaceChildren(
    element("p", { className: "note", text: "chosen trial" }), element("h3", { text: `${rowName(row)} · ${row.label}` }),
    ...tags.map((text) => element("span", { className: "tag", text })),
    ...(row.reason ? [element("p", { className: "note", text: row.reason })] : []),
    ...(picture ? [picture, element("p", { className: "note", text: `${columnsOfPicture(row)}; val pictures` })] : []),
    ...commands(row), numbersOf(state.chosen), ...measuredLater(row),
  );
}
