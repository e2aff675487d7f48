"use strict";
// The table of trials: sorted, filtered, copied; a row chooses its trial.
const FIRST_ROWS = 100;

function columnsOf() {
  const text = [["trial_id", "trial"], ["label", "label"], ["role", "role"], ["status", "status"]];
  const repeated = data.rows.some((row) => row.seeds !== null);
  return [
    ...text.map(([key, title]) => ({ key, title, text: true, of: (number) => data.rows[number][key] })),
    ...state.columns.map((name) => ({ key: name, title: titleOf(name), axis: true, text: axes.get(name).texts, of: (number) => valueOf(number, name) })),
    { key: "contribution", title: "hypervolume contribution", of: (number) => data.rows[number].contribution },
    { key: "rank", title: "rank", of: (number) => data.rows[number].rank },
    ...(repeated ? [["seeds", "seeds"], ["probability", "P(on the front)"]].map(([key, title]) => ({ key, title, of: (number) => data.rows[number][key] })) : []),
  ];
}

/** Missing values last, whichever way the column is sorted. */
function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return (a < b ? -1 : a > b ? 1 : 0) * (state.ascending ? 1 : -1);
}

function sortedRows() {
  const sorting = columnsOf().find((column) => column.key === state.sort) ?? columnsOf()[0];
  return remaining().sort((a, b) => compare(sorting.of(a), sorting.of(b)) || a - b);
}

function sortBy(key) {
  state.ascending = state.sort === key ? !state.ascending : true;
  state.sort = key;
  drawTable();
  writeState();
}

function cellText(column, number) {
  const delta = state.delta && column.axis ? toTeacher(number, column.key) : "";
  return delta || shown(column.of(number));
}

function tableRow(columns, number) {
  const row = data.rows[number];
  const button = element("button", { type: "button", text: row.trial_id, onclick: () => choose(number) });
  const head = element("th", { scope: "row", className: "text" }, [button]);
  const cells = columns.slice(1).map((column) => element("td", { className: column.text ? "text" : "", text: cellText(column, number) }));
  const classes = [row.member && "member", number === state.chosen && "chosen", row.status !== "COMPLETE" && "idle"];
  const line = element("tr", { className: classes.filter(Boolean).join(" ") }, [head, ...cells]);
  line.dataset.row = number;
  return line;
}

function headCell(column) {
  const button = element("button", { type: "button", text: column.title, onclick: () => sortBy(column.key) });
  const direction = state.ascending ? "ascending" : "descending";
  return element("th", { className: column.text ? "text" : "", scope: "col", ariaSort: column.key === state.sort ? direction : "none" }, [button]);
}

function drawTable() {
  const [columns, numbers] = [columnsOf(), sortedRows()];
  const first = allRows ? numbers : numbers.slice(0, FIRST_ROWS);
  byId("columns").replaceChildren(element("tr", {}, columns.map(headCell)));
  byId("trials").replaceChildren(...first.map((number) => tableRow(columns, number)));
  byId("table-note").textContent = `${first.length} of ${data.rows.length} trials` + (numbers.length < data.rows.length ? `, ${numbers.length} left by the filters` : "");
  byId("more-rows").hidden = first.length === numbers.length;
}

/** Marks the chosen row, and nothing else. */
function markChosenRow() {
  byId("trials").querySelector("tr.chosen")?.classList.remove("chosen");
  byId("trials").querySelector(`tr[data-row="${state.chosen}"]`)?.classList.add("chosen");
}

function drawColumnList() {
  byId("column-list").replaceChildren(...data.axes.map(({ name, title }) => element("label", {}, [
    element("input", { type: "checkbox", checked: state.columns.includes(name), onchange: (event) => showColumn(name, event.target.checked) }), ` ${title}`,
  ])));
}

function showColumn(name, isShown) {
  state.columns = data.axes.map((axis) => axis.name).filter((each) => (each === name ? isShown : state.columns.includes(each)));
  drawTable();
  writeState();
}

/** All rows that the filters leave, in the order shown, with tabs: what a spreadsheet takes. */
function tableText() {
  const columns = columnsOf();
  const clean = (value) => String(value ?? "").replace(/[\t\r\n]/g, " ");
  const lines = sortedRows().map((number) => columns.map((column) => clean(column.of(number))).join("\t"));
  return [columns.map((column) => clean(column.title)).join("\t"), ...lines].join("\n");
}

async function copyText(text, said) {
  const box = element("textarea", { value: text });
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");  // works for files, too, where the other way may be refused
  box.remove();
  byId("copied").textContent = done ? said : "the browser refused to copy";
}
