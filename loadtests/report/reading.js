// How does a reader find something in a report?  Folded sections, search, order, and an address that keeps what is shown.
"use strict";
(() => {
  // -- folds: whoever follows a link sees where it leads
  const reveal = (id) => {
    const found = id && document.getElementById(id);
    if (!found) return;
    for (let at = found; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    const own = found.querySelector(":scope > details");
    if (own) own.open = true;
    for (const old of document.querySelectorAll(".pointed")) old.classList.remove("pointed");
    found.classList.add("pointed");
    found.scrollIntoView();
  };

  // -- the address: #section&t=20.00-35.00&off=latency:latency_p99_ms&log
  const OFF = "button[data-renderer][aria-pressed=false]";
  const read = () => {
    const [id, ...rest] = location.hash.slice(1).split("&");
    const said = Object.fromEntries(rest.map((part) => part.split(/=(.*)/s)));
    const decoded = (text) => { try { return decodeURIComponent(text || ""); } catch { return ""; } };
    const t = /^(-?[0-9.]+)-(-?[0-9.]+)$/.exec(said.t || "");
    return { id: decoded(id), t: t && [Number(t[1]), Number(t[2])], off: decoded(said.off).split(","), log: "log" in said };
  };
  const write = () => {
    const shown = Tickstorm.shown();
    const off = [...document.querySelectorAll(OFF)].map((button) => button.dataset.renderer);
    const log = document.querySelector("button[data-action=log][aria-pressed=true]");
    const parts = [read().id || (shown || off.length || log ? "timeline" : "")];
    if (shown) parts.push(`t=${shown[0].toFixed(2)}-${shown[1].toFixed(2)}`);
    if (off.length) parts.push("off=" + off.map(encodeURIComponent).join(","));
    if (log) parts.push("log");
    const wanted = "#" + parts.join("&");
    if (wanted !== (location.hash || "#")) history.replaceState(null, "", wanted);
    const label = document.querySelector(".controls .shown");
    if (label) label.textContent = shown ? `shown: ${shown[0].toFixed(1)} s to ${shown[1].toFixed(1)} s` : "";
  };
  let due = 0;
  const later = () => { clearTimeout(due); due = setTimeout(write, 150); };

  const restore = () => {
    const { id, t, off, log } = read();
    if (t && t[0] < t[1]) Tickstorm.range(...t);
    for (const button of document.querySelectorAll("button[data-renderer]"))
      if (off.includes(button.dataset.renderer)) button.click();
    if (log) document.querySelector("button[data-action=log]")?.click();
    reveal(id);
    Tickstorm.onrange(later);
    document.addEventListener("click", (event) => event.target.closest("button") && later());
    write();
  };
  addEventListener("hashchange", () => { reveal(read().id); later(); });
  reveal(read().id);
  new MutationObserver((_, observer) => { observer.disconnect(); restore(); })
    .observe(document.documentElement, { attributeFilter: ["data-drawn"] });

  // -- tables: search by words, order by a column, and what a cell is where a table becomes a list
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = cell?.querySelector("data");
    return number ? Number(number.value) : (cell?.textContent.trim() ?? "");
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b, "en", { numeric: true }));
  for (const table of document.querySelectorAll(".scroll > table")) {
    const heads = [...table.querySelectorAll("thead th")];
    const body = table.tBodies[0];
    if (!body) continue;
    for (const row of body.rows)
      [...row.cells].forEach((cell, column) => { if (cell.colSpan === 1 && column) cell.dataset.label = heads[column]?.textContent ?? ""; });
    const movable = [...body.rows].filter((row) => row.cells.length === heads.length && !row.matches(".total, .fold"));
    if (movable.length < 6) continue;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        movable.sort((a, b) => compare(value(a, column), value(b, column)) * (down ? -1 : 1));
        body.prepend(...movable);
      });
    });
  }
  for (const field of document.querySelectorAll("input[type=search]")) {
    const rows = [...field.parentElement.nextElementSibling.querySelectorAll("tbody tr")];
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  }

  // -- paper: what is folded stays folded, the zoom stays; the plots get the width of the paper
  addEventListener("beforeprint", write);
})();
