"use strict";
(() => {
  const table = document.getElementById("table");
  if (table) makeSortable(table);
})();
