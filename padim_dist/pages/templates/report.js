"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;
  const collator = new Intl.Collator(undefined, { numeric: true });
  root.classList.add("js");

  // Tables: a click on a column heading sorts by that column.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        const first = head.classList.contains("number") ? !down : head.getAttribute("aria-sort") === "ascending";
        const sign = first ? -1 : 1;
        const value = (row) => row.cells[column].dataset.value;
        const compare = (a, b) => {
          const [x, y] = [value(a), value(b)];
          // Unknown values stay at the end in both directions.
          if (x === "" || y === "") return (x === "") - (y === "");
          return sign * (head.classList.contains("number") ? x - y : collator.compare(x, y));
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", first ? "descending" : "ascending");
      });
    });
  }

  const gallery = byId("gallery");
  if (!gallery) return;
  const cards = [...gallery.children];
  const number = (card, key) => (card.dataset[key] === "" ? Infinity : Number(card.dataset[key]));
  const byScore = (a, b) => number(b, "score") - number(a, "score");
  const byName = (a, b) => collator.compare(a.dataset.name, b.dataset.name);
  const orders = {
    score: byScore,
    p: (a, b) => (number(a, "p") === number(b, "p") ? byScore(a, b) : number(a, "p") - number(b, "p")),
    name: byName,
    group: (a, b) => collator.compare(a.dataset.group, b.dataset.group) || byScore(a, b),
  };
  let shown = cards;

  function arrange() {
    const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const group = byId("group") ? byId("group").value : "";
    const flagged = byId("flagged").checked;
    cards.sort(orders[byId("sort").value]);
    for (const card of cards) {
      const text = `${card.dataset.name} ${card.dataset.group} ${card.dataset.label}`.toLowerCase();
      card.hidden =
        !words.every((word) => text.includes(word)) ||
        (group !== "" && card.dataset.group !== group.slice(1)) ||
        (flagged && card.dataset.flagged !== "1");
    }
    gallery.append(...cards);
    shown = cards.filter((card) => !card.hidden);
    byId("shown").textContent = `${shown.length} of ${cards.length} shown`;
    byId("none").hidden = shown.length > 0;
  }
  for (const id of ["text", "group", "flagged", "sort"]) {
    if (byId(id)) byId(id).addEventListener("input", arrange);
  }
  // Browsers may restore the controls of a page that is reopened.
  arrange();

  const sliders = [...document.querySelectorAll("input[type=range]")];
  function fade(from) {
    for (const slider of sliders) slider.value = from.value;
    root.style.setProperty("--heat", from.value / 100);
  }
  for (const slider of sliders) slider.addEventListener("input", () => fade(slider));
  fade(sliders[0]);
  const boxes = byId("boxes");
  const outline = () => root.classList.toggle("no-boxes", !boxes.checked);
  boxes.addEventListener("change", outline);
  outline();

  const dialog = byId("dialog");
  let current = null;
  function show(card) {
    current = card;
    const place = shown.indexOf(card);
    byId("place").textContent = `${place + 1} of ${shown.length}`;
    byId("picture").replaceChildren(card.querySelector("svg").cloneNode(true));
    byId("details").replaceChildren(card.querySelector("template").content.cloneNode(true));
    byId("before").disabled = place <= 0;
    byId("after").disabled = place >= shown.length - 1;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  function step(by) {
    const next = shown[shown.indexOf(current) + by];
    if (next) show(next);
  }
  for (const card of cards) card.querySelector("button").addEventListener("click", () => show(card));
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => current.querySelector("button").focus());
})();
