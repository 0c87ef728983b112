// a table that is wider than its place says so
addEventListener("load", () => {
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) target.classList.toggle("more", target.scrollWidth > target.clientWidth + 1);
  });
  for (const place of document.querySelectorAll(".scroll")) watch.observe(place);
});
