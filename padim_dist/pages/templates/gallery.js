// The gallery: order and filters, which the address keeps.
function makeGallery(list) {
  const cards = [...list.querySelectorAll(".card")];
  const divider = byId("divider");
  const flagged = (card) => card.dataset.flagged === "1";
  const number = (card, key) => (card.dataset[key] === "" ? Infinity : Number(card.dataset[key]));
  const byScore = (a, b) => number(b, "score") - number(a, "score");
  const byName = (a, b) => collator.compare(a.dataset.name, b.dataset.name);
  const orders = {
    score: byScore,
    // Flagged images come first, also where the groups have different thresholds.
    p: (a, b) =>
      flagged(b) - flagged(a) ||
      (number(a, "p") === number(b, "p") ? byScore(a, b) : number(a, "p") - number(b, "p")),
    name: byName,
    group: (a, b) => collator.compare(a.dataset.group, b.dataset.group) || byScore(a, b),
  };
  const truth = (card) => marks.get(card.dataset.id)?.verdict || card.dataset.truth;
  const kinds = {
    near: (card) => flagged(card) || card.dataset.near === "1",
    flagged,
    all: () => true,
    missed: (card) => !flagged(card) && truth(card) === "defect",
    false: (card) => flagged(card) && truth(card) === "ok",
    marked: (card) => Boolean(marks.get(card.dataset.id)),
    unmarked: (card) => !marks.get(card.dataset.id),
  };
  const controls = ["text", "show", "group", "label", "sort"].map(byId).filter(Boolean);
  const usual = Object.fromEntries(controls.map((control) => [control.id, control.options ? control.options[0].value : ""]));
  let shown = cards;

  function arrange() {
    const chosen = { ...usual, ...Object.fromEntries(controls.map((control) => [control.id, control.value])) };
    const words = chosen.text.toLowerCase().split(/\s+/).filter(Boolean);
    cards.sort(orders[chosen.sort]);
    for (const card of cards) {
      const { name, id, group, label } = card.dataset;
      const text = `${name} ${group} ${label} ${id}`.toLowerCase();
      const own = chosen.label.startsWith("+") ? `+${truth(card)}` : `=${label}`;
      card.hidden =
        !kinds[chosen.show](card) ||
        !words.every((word) => text.includes(word)) ||
        (chosen.group ? group !== chosen.group.slice(1) : false) ||
        (chosen.label !== "" && own !== chosen.label);
    }
    list.append(...cards);
    shown = cards.filter((card) => !card.hidden);
    divide(chosen.sort);
    byId("shown").textContent = `${shown.length} of ${cards.length} shown`;
    byId("none").hidden = shown.length > 0;
    const set = ["show", "group", "label"].filter((id) => chosen[id] !== undefined && chosen[id] !== usual[id]);
    byId("more").textContent = set.length ? `Filters (${set.length})` : "Filters";
    return chosen;
  }
  // The line at the threshold is before the first image that is not flagged.
  function divide(order) {
    if (!divider) return;
    const first = shown.findIndex((card) => !flagged(card));
    const clean = first >= 0 && shown.slice(first).every((card) => !flagged(card));
    divider.hidden = !clean || (order !== "p" && order !== "score");
    if (!divider.hidden) shown[first].before(divider);
  }
  function fromAddress() {
    const { settings } = address.read();
    for (const control of controls) {
      const value = settings.get(control.id) ?? usual[control.id];
      const known = !control.options || [...control.options].some((option) => option.value === value);
      control.value = known ? value : usual[control.id];
    }
    arrange();
    return settings;
  }
  for (const control of controls) {
    control.addEventListener("input", () => {
      const chosen = arrange();
      const settings = Object.fromEntries(
        controls.map(({ id }) => [id, chosen[id] === usual[id] ? "" : chosen[id]]),
      );
      address.write({ section: "anomalies", settings });
    });
  }
  // A mark hides no image at once, though it changes what is missed or a false alarm: filters are
  // applied when one of them is changed.
  byId("more").addEventListener("click", () => {
    const open = byId("tools").classList.toggle("unfolded");
    byId("more").setAttribute("aria-expanded", String(open));
  });

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

  const viewer = makeViewer({ shown: () => shown });
  for (const card of cards) card.querySelector(".open").addEventListener("click", () => viewer.show(card));
  function start() {
    const image = fromAddress().get("image");
    const card = image && cards.find(({ dataset }) => dataset.id === image);
    if (card) viewer.show(card);
    else byId("dialog").close();
    if (location.hash.includes("?")) jump();
  }
  addEventListener("hashchange", start);
  start();
}
if (byId("gallery")) makeGallery(byId("gallery"));
