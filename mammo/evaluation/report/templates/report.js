"use strict";
(() => {
  const table = document.getElementById("predictions");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
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

  makeSortable(table);
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
