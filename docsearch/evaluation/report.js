"use strict";
const table = document.getElementById("queries");
const rows = [...table.tBodies[0].rows];
const search = document.getElementById("search");
const missed = document.getElementById("missed");
const shown = document.getElementById("shown");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word)) || (missed.checked && row.dataset.rank === "1");
    count += !row.hidden;
  }
  shown.textContent = `${count} of ${rows.length} shown`;
}

function sort(header) {
  const at = header.cellIndex;
  const up = header.getAttribute("aria-sort") !== "ascending";
  const value = (row) => row.cells[at].dataset.sort ?? row.cells[at].textContent;
  const compare = header.classList.contains("n")
    ? (one, other) => value(one) - value(other)
    : (one, other) => value(one).localeCompare(value(other));
  rows.sort((one, other) => (up ? compare(one, other) : compare(other, one)));
  table.tBodies[0].append(...rows);
  for (const cell of header.parentNode.cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
}

search.addEventListener("input", filter);
missed.addEventListener("change", filter);
for (const button of table.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.parentNode));
}

const large = document.getElementById("large");
for (const page of document.querySelectorAll("button.page")) {
  page.addEventListener("click", () => {
    const image = page.querySelector("img");
    large.querySelector("img").src = image.src;
    large.querySelector("img").alt = image.alt;
    large.showModal();
  });
}
large.addEventListener("click", () => large.close());
filter();
