"use strict";
// sort the rows of a table when the button of a column is pressed; missing values come last in both orders
const makeSortable = (table) => {
  const rows = [...table.tBodies[0].rows];
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
    const value = (row) => {
      const cell = row.cells[header.cellIndex];
      return cell.dataset.value ?? cell.textContent.trim();
    };
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sort(header));
  }
};
