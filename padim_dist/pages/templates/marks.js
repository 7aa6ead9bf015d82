// Verdicts of this person: kept in the browser for each run, saved to a file on request. A file has
// what no file has yet.
const marks = (() => {
  const key = `padim-dist reviews ${root.dataset.run}`;
  const listeners = [];
  let kept = true;
  let all = {};
  try {
    all = JSON.parse(localStorage.getItem(key)) || {};
  } catch {
    kept = false;
  }

  function store() {
    try {
      localStorage.setItem(key, JSON.stringify(all));
    } catch {
      kept = false;
    }
  }
  function changed(id) {
    store();
    refresh();
    for (const listener of listeners) listener(id);
  }
  function press(buttons, verdict) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
  }
  const get = (id) => all[id];
  // The verdict that an image has already is removed.
  function toggle(id, verdict) {
    if (all[id] && all[id].verdict === verdict) delete all[id];
    else all[id] = { kind: "", note: "", ...all[id], verdict, saved: false };
    changed(id);
  }
  function describe(id, texts) {
    const mark = all[id];
    if (!mark || Object.keys(texts).every((name) => mark[name] === texts[name])) return;
    Object.assign(mark, texts, { saved: false });
    store();
    count();
  }
  function refresh() {
    for (const holder of document.querySelectorAll("[data-id]")) {
      const verdict = all[holder.dataset.id]?.verdict;
      press(holder.querySelectorAll(".marks button"), verdict);
      holder.classList.toggle("marked-ok", verdict === "ok");
      holder.classList.toggle("marked-defect", verdict === "defect");
    }
    count();
  }
  function count() {
    const given = Object.values(all);
    const defects = given.filter((mark) => mark.verdict === "defect").length;
    const images = given.length === 1 ? "1 image" : `${given.length} images`;
    const left = given.filter((mark) => !mark.saved).length;
    const saved = left === given.length ? "" : left ? ` ${left} not saved yet.` : " All are saved.";
    byId("saved").hidden = given.length === 0;
    byId("save").disabled = left === 0;
    byId("marked").textContent =
      `${images} marked: ${defects} defect, ${given.length - defects} ok.${saved}` +
      (kept ? "" : " This browser does not keep marks: save them before you close the page.");
    byId("then").hidden = true;
    byId("clear").textContent = "Clear";
  }
  function save() {
    const fresh = Object.entries(all).filter(([, mark]) => !mark.saved);
    const reviews = fresh.map(([image_id, mark]) => ({
      image_id,
      verdict: mark.verdict,
      kind: (mark.verdict === "defect" && mark.kind) || null,
      note: mark.note || null,
    }));
    const text = JSON.stringify({ padim_dist: "reviews", run: root.dataset.run, reviews }, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = root.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    for (const [, mark] of fresh) mark.saved = true;
    store();
    count();
    byId("then").hidden = false;
  }
  // The second click clears.
  function clear() {
    const button = byId("clear");
    if (button.textContent === "Clear") {
      button.textContent = "Clear all? Click again";
      return;
    }
    all = {};
    changed(null);
  }
  // A key on an image: o or d.
  function onKey(event, id) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=range]), select")) return;
    const verdict = { o: "ok", d: "defect" }[event.key.toLowerCase()];
    if (verdict) toggle(id, verdict);
  }
  if (byId("saved")) {
    for (const holder of document.querySelectorAll("[data-id]")) {
      const { id } = holder.dataset;
      for (const button of holder.querySelectorAll(".marks button")) {
        button.addEventListener("click", () => toggle(id, button.dataset.verdict));
      }
      holder.addEventListener("keydown", (event) => onKey(event, id));
    }
    byId("save").addEventListener("click", save);
    byId("clear").addEventListener("click", clear);
    refresh();
  }
  return { get, toggle, describe, onKey, press, onChange: (listener) => listeners.push(listener) };
})();
