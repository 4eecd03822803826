"use strict";
(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  for (const select of all("select[data-filters]")) {
    const filter = () => {
      for (const item of all(`#${select.dataset.filters} [data-group]`)) {
        item.hidden = select.value !== "" && item.dataset.group !== select.value;
      }
      for (const block of all(`#${select.dataset.filters} details`)) {
        block.hidden = !block.querySelector("[data-group]:not([hidden])");
      }
    };
    select.addEventListener("change", filter);
    filter();
  }
  const bubble = document.getElementById("bubble");
  const hide = () => { bubble.hidden = true; };
  for (const mark of all("g.mark")) {
    const title = mark.querySelector("title");
    const text = title ? title.textContent : "";
    if (title) { title.remove(); mark.setAttribute("aria-label", text); }
    mark.setAttribute("tabindex", "0");
    const show = () => {
      bubble.textContent = text;
      bubble.hidden = false;
      const box = mark.getBoundingClientRect();
      const left = Math.min(box.left, document.documentElement.clientWidth - bubble.offsetWidth - 8);
      bubble.style.left = `${Math.max(8, left) + window.scrollX}px`;
      bubble.style.top = `${box.bottom + 6 + window.scrollY}px`;
      const group = Array.from(mark.classList).find((name) => /^g\d+$/.test(name));
      for (const other of mark.closest("svg").querySelectorAll("g.mark")) {
        other.classList.toggle("dim", !other.classList.contains(group));
      }
    };
    const leave = () => {
      hide();
      for (const other of mark.closest("svg").querySelectorAll("g.mark.dim")) {
        other.classList.remove("dim");
      }
    };
    mark.addEventListener("mouseenter", show);
    mark.addEventListener("focus", show);
    mark.addEventListener("mouseleave", leave);
    mark.addEventListener("blur", leave);
  }
})();
