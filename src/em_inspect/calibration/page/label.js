// A sheet of answers: what is entered is kept in the browser, counted, and saved as a CSV.
"use strict";
const { storage, name } = document.body.dataset;
const FIELDS = ["alignment", "coherence", "outcome", "note"];
const articles = [...document.querySelectorAll("article")];
const field = (article, key) => article.querySelector(`[name=${key}]`);
let unsaved = false;

function done(article) {
  const numbers = ["alignment", "coherence"].map((key) => field(article, key));
  return field(article, "outcome").value !== ""
    || numbers.every((input) => input.value !== "" && input.validity.valid);
}

function show() {
  let count = 0;
  for (const article of articles) {
    const is = done(article);
    article.classList.toggle("done", is);
    count += is;
  }
  document.getElementById("progress").value = count;
  document.getElementById("count").textContent = `${count} of ${articles.length}`;
}

function read() {
  const rows = {};
  for (const article of articles) {
    const row = Object.fromEntries(FIELDS.map((key) => [key, field(article, key).value]));
    if (FIELDS.some((key) => row[key] !== "")) rows[article.id] = row;
  }
  return rows;
}

function keep() {
  unsaved = true;
  try {
    localStorage.setItem(storage, JSON.stringify(read()));
  } catch {
    document.getElementById("unkept").hidden = false;
  }
}

function restore() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(storage) ?? "{}");
  } catch {
    document.getElementById("unkept").hidden = false;
  }
  for (const article of articles) {
    for (const key of FIELDS) field(article, key).value = kept[article.id]?.[key] ?? "";
  }
}

// A spreadsheet takes a cell that begins so for a formula.
const safe = (text) => (/^ *[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) ? `'${text}` : text);
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function csv() {
  const rows = read();
  const lines = articles.map((article) => {
    const row = rows[article.id] ?? {};
    return [article.id, ...FIELDS.map((key) => cell(safe(row[key] ?? "")))].join(",");
  });
  return `${["id", ...FIELDS].join(",")}\n${lines.join("\n")}\n`;
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = `${name}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  unsaved = false;
}

function next() {
  const open = articles.find((article) => !done(article));
  if (!open) return;
  open.scrollIntoView({ block: "start" });
  field(open, "alignment").focus({ preventScroll: true });
}

restore();
show();
document.querySelector("main").addEventListener("input", () => { keep(); show(); });
document.getElementById("save").addEventListener("click", save);
document.getElementById("next").addEventListener("click", next);
window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
