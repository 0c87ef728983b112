"use strict";
(() => {
  const table = document.getElementById("runs");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const lines = new Map();
  for (const line of document.querySelectorAll(".curves [data-run]")) {
    lines.set(line.dataset.run, [...(lines.get(line.dataset.run) ?? []), line]);
  }
  const mark = (run, name, on) => {
    for (const line of lines.get(run) ?? []) line.classList.toggle(name, on);
  };
  const light = (row, on) => {
    const found = lines.get(row.dataset.run) ?? [];
    mark(row.dataset.run, "hot", on);
    // outside the faint group, and above the other lines
    for (const line of found) {
      const group = line.closest("svg").querySelector("g");
      if (on) line.closest("svg").append(line); else group.append(line);
    }
  };
  for (const row of rows) {
    row.addEventListener("pointerenter", () => light(row, true));
    row.addEventListener("pointerleave", () => light(row, false));
  }

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
    const value = (row) => {
      const cell = row.cells[header.cellIndex];
      return cell.dataset.value ?? cell.textContent.trim();
    };
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    body.append(...keyed.map(([, row]) => row));
  };
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sort(header));
  }

  const form = document.getElementById("filters");
  const text = document.getElementById("filter-text");
  const filter = () => {
    const terms = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !terms.every((term) => words[index].includes(term));
      mark(row.dataset.run, "off", row.hidden);
      shown += !row.hidden;
    });
    document.getElementById("filter-status").textContent = `${shown} of ${rows.length} runs shown`;
  };
  text.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
})();
