"use strict";
(() => {
  const readout = document.getElementById("readout");
  const marks = [...document.querySelectorAll("[data-trial]")];
  const pointsOf = (mark) => mark.tagName === "circle"
    ? [[mark.cx.baseVal.value, mark.cy.baseVal.value]]
    : [...mark.points].map((point) => [point.x, point.y]);
  const figures = [...document.querySelectorAll("svg.trials")].map((svg) => ({
    svg, lines: [...svg.querySelectorAll("[data-trial]")].map((mark) => ({ mark, points: pointsOf(mark) })),
  }));
  const texts = new Map(marks.filter((mark) => mark.querySelector("title"))
    .map((mark) => [mark.dataset.trial, mark.querySelector("title").textContent]));
  // the readout shows this text, so the tooltip is removed
  for (const mark of marks) mark.querySelector("title")?.remove();

  let hot = null;
  const show = (trial) => {
    if (trial === hot) return;
    hot = trial;
    for (const copy of document.querySelectorAll("svg .hot")) copy.remove();
    for (const mark of marks) {
      if (mark.tagName === "TR") mark.classList.toggle("hot", mark.dataset.trial === trial);
    }
    readout.hidden = trial === null;
    if (trial === null) return;
    readout.textContent = texts.get(trial) ?? `Trial ${trial}`;
    for (const { lines } of figures) {
      const mark = lines.find(({ mark }) => mark.dataset.trial === trial)?.mark;
      if (!mark || mark.classList.contains("off")) continue;
      const copy = mark.cloneNode();
      copy.removeAttribute("data-trial");
      copy.classList.add("hot");
      mark.parentNode.append(copy);
    }
  };

  const distance = ([x1, y1], [x2, y2], x, y) => {
    const [across, down] = [x2 - x1, y2 - y1];
    const along = ((x - x1) * across + (y - y1) * down) / (across * across + down * down || 1);
    const part = Math.min(1, Math.max(0, along));
    return Math.hypot(x - x1 - part * across, y - y1 - part * down);
  };
  const nearest = ({ svg, lines }, event) => {
    const matrix = svg.getScreenCTM();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let [found, least] = [null, 14 / matrix.a];
    // topmost line first: it is chosen among equally near lines
    for (const { mark, points } of [...lines].reverse()) {
      if (mark.classList.contains("off")) continue;
      for (let i = 0; i < Math.max(1, points.length - 1); i++) {
        const away = distance(points[i], points[i + 1] ?? points[i], x, y);
        if (away < least) [found, least] = [mark.dataset.trial, away];
      }
    }
    return found;
  };
  for (const figure of figures) {
    for (const type of ["pointermove", "pointerdown"]) {
      figure.svg.addEventListener(type, (event) => show(nearest(figure, event)));
    }
    figure.svg.addEventListener("pointerleave", () => show(null));
  }
  for (const row of marks.filter((mark) => mark.tagName === "TR")) {
    row.addEventListener("pointerenter", () => show(row.dataset.trial));
    row.addEventListener("pointerleave", () => show(null));
  }

  const parallel = figures.find(({ svg }) => svg.id === "parallel");
  if (!parallel) return;
  const bar = document.getElementById("brushing");
  const selected = document.getElementById("selected");
  const button = bar.querySelector("button");
  const hint = selected.textContent;
  const columns = [...parallel.svg.querySelectorAll(".column")];
  const ranges = new Map();

  const select = () => {
    columns.forEach((column, index) => {
      const [from, to] = ranges.get(index) ?? [0, 0];
      const brush = column.querySelector(".brush");
      brush.setAttribute("y", from);
      brush.setAttribute("height", to - from);
    });
    const off = new Set(parallel.lines.filter(({ points }) =>
      [...ranges].some(([index, [from, to]]) => points[index][1] < from || points[index][1] > to))
      .map(({ mark }) => mark.dataset.trial));
    const scored = new Set(parallel.lines.map(({ mark }) => mark.dataset.trial));
    for (const mark of marks) {
      const { trial } = mark.dataset;
      mark.classList.toggle("off", ranges.size > 0 && (off.has(trial) || !scored.has(trial)));
    }
    button.hidden = ranges.size === 0;
    selected.textContent = ranges.size
      ? `${scored.size - off.size} of ${scored.size} trials selected, on the whole page.` : hint;
  };
  columns.forEach((column, index) => {
    const grip = column.querySelector(".grip");
    let start = null;
    const height = (event) => new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(parallel.svg.getScreenCTM().inverse()).y;
    grip.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      grip.setPointerCapture(event.pointerId);
      start = height(event);
    });
    grip.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const end = height(event);
      ranges.set(index, [Math.min(start, end), Math.max(start, end)]);
      select();
    });
    for (const type of ["pointerup", "pointercancel"]) {
      grip.addEventListener(type, (event) => {
        // a click without dragging removes the selection of the axis
        if (start !== null && Math.abs(height(event) - start) < 3) ranges.delete(index), select();
        start = null;
      });
    }
  });
  button.addEventListener("click", () => (ranges.clear(), select()));
  bar.hidden = false;
})();
