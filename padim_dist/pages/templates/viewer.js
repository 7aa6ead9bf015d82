// The large view of one image: zoom, original, mask, verdict.
function makeViewer(gallery) {
  const dialog = byId("dialog");
  const picture = byId("picture");
  const judge = byId("judge");
  let current = null;
  let svg = null;
  let size = [1, 1];
  let zoom = 1;
  let centre = [0.5, 0.5];

  function look() {
    const part = 1 / zoom;
    centre = centre.map((place) => Math.min(Math.max(place, part / 2), 1 - part / 2));
    const [width, height] = size;
    const corner = [(centre[0] - part / 2) * width, (centre[1] - part / 2) * height];
    svg.setAttribute("viewBox", [...corner, width * part, height * part].join(" "));
    picture.classList.toggle("zoomed", zoom > 1);
    byId("whole").textContent = `${Math.round(zoom * 10) / 10}×`;
    byId("out").disabled = zoom <= 1;
  }
  // Where a pointer is: shares of the whole image, and of the part that is shown.
  function place(event) {
    const box = svg.getBoundingClientRect();
    const shown = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return { shown, whole: shown.map((share, axis) => centre[axis] + (share - 0.5) / zoom) };
  }
  function zoomTo(next, at) {
    const { shown, whole } = at || { shown: [0.5, 0.5], whole: centre };
    zoom = Math.min(Math.max(next, 1), 16);
    centre = whole.map((share, axis) => share - (shown[axis] - 0.5) / zoom);
    look();
  }
  function toPeak() {
    const at = [Number(current.dataset.x) / size[0], Number(current.dataset.y) / size[1]];
    zoom = 3;
    centre = at;
    look();
  }
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), place(event));
  }, { passive: false });
  picture.addEventListener("dblclick", (event) => zoomTo(zoom > 1 ? 1 : 3, place(event)));
  let held = null;
  picture.addEventListener("pointerdown", (event) => {
    if (zoom === 1) return;
    held = [event.clientX, event.clientY];
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    if (!held) return;
    const box = svg.getBoundingClientRect();
    centre = [
      centre[0] - (event.clientX - held[0]) / box.width / zoom,
      centre[1] - (event.clientY - held[1]) / box.height / zoom,
    ];
    held = [event.clientX, event.clientY];
    look();
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => (held = null));
  byId("in").addEventListener("click", () => (zoom === 1 ? toPeak() : zoomTo(zoom * 1.5)));
  byId("out").addEventListener("click", () => zoomTo(zoom / 1.5));
  byId("whole").addEventListener("click", () => zoomTo(1));

  function toggle(id) {
    const button = byId(id);
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    picture.classList.toggle(id, on);
  }
  for (const id of ["original", "truth"]) byId(id).addEventListener("click", () => toggle(id));

  const texts = { kind: byId("kind"), note: byId("note") };
  function showMark() {
    if (!current) return;
    const mark = marks.get(current.dataset.id);
    marks.press(judge.querySelectorAll("button"), mark?.verdict);
    for (const [name, input] of Object.entries(texts)) {
      input.value = mark?.[name] || "";
      // Only a defect has a kind.
      input.disabled = name === "kind" ? mark?.verdict !== "defect" : !mark;
    }
  }
  marks.onChange(showMark);
  for (const button of judge.querySelectorAll("button")) {
    button.addEventListener("click", () => marks.toggle(current.dataset.id, button.dataset.verdict));
  }
  for (const [name, input] of Object.entries(texts)) {
    input.addEventListener("input", () => marks.describe(current.dataset.id, { [name]: input.value.trim() }));
  }

  function show(card) {
    current = card;
    const shown = gallery.shown();
    const number = shown.indexOf(card);
    byId("place").textContent = number < 0 ? "" : `${number + 1} of ${shown.length}`;
    svg = card.querySelector("svg").cloneNode(true);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    size = [width, height];
    picture.replaceChildren(svg);
    byId("details").replaceChildren(card.querySelector("template").content.cloneNode(true));
    byId("before").disabled = number <= 0;
    byId("after").disabled = number >= shown.length - 1;
    byId("truth").disabled = !svg.querySelector(".mask");
    showMark();
    zoomTo(1);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    address.write({ settings: { image: card.dataset.id } });
  }
  function step(by) {
    const shown = gallery.shown();
    const next = shown[shown.indexOf(current) + by];
    if (next) show(next);
  }
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return;
    const keys = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      "+": () => zoomTo(zoom * 1.5),
      "-": () => zoomTo(zoom / 1.5),
      0: () => zoomTo(1),
    };
    if (keys[event.key]) keys[event.key]();
    else marks.onKey(event, current.dataset.id);
  });
  dialog.addEventListener("close", () => {
    address.write({ settings: { image: "" } });
    current.querySelector(".open").focus();
  });
  return { show };
}
