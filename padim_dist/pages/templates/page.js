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

// The part of the address after "#": a section, then "?" and the settings of the gallery.
const address = {
  read() {
    const [section, ...query] = location.hash.slice(1).split("?");
    return { section, settings: new URLSearchParams(query.join("?")) };
  },
  write(changes) {
    const { section, settings } = address.read();
    for (const [key, value] of Object.entries(changes.settings || {})) {
      if (value) settings.set(key, value);
      else settings.delete(key);
    }
    const query = settings.toString();
    const hash = (changes.section ?? section) + (query ? `?${query}` : "");
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  },
};
function jump() {
  const place = byId(address.read().section);
  if (place) place.scrollIntoView();
}
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    address.write({ section: link.hash.slice(1) });
    jump();
  });
}

// Copy buttons: the text before the button.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  button.textContent = (await copy(button.previousElementSibling)) ? "Copied" : "Selected";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});
