"use strict";
(() => {
  const table = document.getElementById("runs");
  const rows = [...table.tBodies[0].rows];
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

  makeSortable(table);

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
