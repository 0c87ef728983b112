"use strict";
(() => {
  const table = document.getElementById("predictions");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = rows.map((row) => row.textContent.toLowerCase().replace(/\s+/g, " "));
  const controls = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  const selects = [...controls.querySelectorAll("select")];
  const status = document.getElementById("filter-status");

  const filter = () => {
    const terms = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = terms.every((word) => words[index].includes(word)) &&
        selects.every((select) => !select.value || row.dataset[select.dataset.key] === select.value);
      row.hidden = !fits;
      shown += fits;
    });
    status.textContent = `${shown} of ${rows.length} {{ samples }} shown`;
  };

  // missing values come last in both orders
  const compare = (left, right, sign) => {
    if (left === "" || right === "") return (left === "") - (right === "");
    const difference = Number(left) - Number(right);
    if (!Number.isNaN(difference)) return sign * difference;
    return sign * left.localeCompare(right, "en", { numeric: true });
  };

  const sort = (header) => {
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const column = header.cellIndex;
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    body.append(...keyed.map(([, row]) => row));
  };

  for (const header of table.tHead.rows[0].cells) {
    const button = header.querySelector("button");
    if (button) button.addEventListener("click", () => sort(header));
  }
  text.addEventListener("input", filter);
  for (const select of selects) select.addEventListener("change", filter);
  controls.addEventListener("reset", () => setTimeout(filter));
  controls.addEventListener("submit", (event) => event.preventDefault());

  // a link from a picture to its row resets the filters if they hide the row
  for (const link of document.querySelectorAll("a.to-row")) {
    link.addEventListener("click", () => {
      if (document.querySelector(link.getAttribute("href")).hidden) controls.reset(), filter();
    });
  }
  controls.hidden = false;
  filter();
})();

// open all details before printing
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
