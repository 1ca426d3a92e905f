// How does the run go right now?  Asks `live.json` once a second and shows what it says; the other scripts hear it too.
"use strict";
(() => {
  const EVERY_MS = 1000;
  const page = document.querySelector(".page");
  const at = (id) => document.getElementById(id);
  const known = (v) => typeof v === "number" && Number.isFinite(v);
  const dash = () => {
    const none = document.createElement("span");
    none.className = "none";
    none.title = "the data cannot carry this number";
    none.textContent = "–";
    return none;
  };
  const put = (element, value, unit) => element.replaceChildren(known(value) ? Tickstorm.show(value, unit) : dash());
  const cell = (text, right) => {
    const td = document.createElement("td");
    if (right) td.className = "r";
    td.replaceChildren(text);
    return td;
  };
  const number = (value, unit) => cell(known(value) ? Tickstorm.show(value, unit) : dash(), true);
  const rows = (body, made, width, empty) => {
    if (!made.length) {
      made = [row(cell(empty))];
      made[0].firstElementChild.colSpan = width;
    }
    body.replaceChildren(...made);
  };
  const row = (...cells) => {
    const tr = document.createElement("tr");
    tr.replaceChildren(...cells);
    return tr;
  };
  const list = (element, lines) => {
    element.replaceChildren(...lines.map((line) => {
      const li = document.createElement("li");
      li.textContent = line;
      return li;
    }));
    element.hidden = !lines.length;
  };
  const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };

  const MARKS = { PASS: "✔ ", FAIL: "✖ ", ABORTED: "■ ", UNKNOWN: "? " };
  const head = (live) => {
    text(at("title"), live.profile ? live.profile + ": live" : "Tickstorm: live");
    text(at("run"), live.run ? "run " + live.run : "no run yet; start one in Locust");
    const word = at("word"), verdict = MARKS[live.verdict] ? live.verdict : "";
    text(word, verdict ? MARKS[verdict] + verdict : live.state);
    word.className = "verdict " + (verdict ? verdict.toLowerCase() : "neutral");
    at("state").className = "card banner " + verdict.toLowerCase();
    const active = live.faults.filter((f) => f.state === "active").map((f) => f.name);
    text(at("phase"), [live.phase, active.length ? "fault now: " + active.join(", ") : ""].filter(Boolean).join("; "));
    list(at("reasons"), live.reasons);
    const done = Boolean(live.report) && Boolean(live.run);
    at("report").hidden = !done;
    if (done) at("report-link").href = `${page.dataset.base}/reports/${encodeURIComponent(live.run)}/report.html`;
    const part = live.plan_s > 0 ? Math.min(100, Math.max(0, (100 * live.now_s) / live.plan_s)) : 0;
    at("progress").setAttribute("aria-valuenow", part.toFixed(0));
    at("progress").firstElementChild.style.width = part + "%";
  };

  const numbers = (live) => {
    for (const element of document.querySelectorAll("[data-key]")) {
      let value = live;
      for (const key of element.dataset.key.split(".")) value = value == null ? null : value[key];
      put(element, value, element.dataset.unit);
      if (element.dataset.key === "lost_so_far") element.parentElement.classList.toggle("bad", value > 0);
    }
  };

  const tables = (live) => {
    rowsOfFaults(live);
    const names = [...new Set([...Object.keys(live.memory_mb), ...Object.keys(live.cpu_percent)])].sort();
    rows(at("processes"), names.map((n) => row(cell(n), number(live.memory_mb[n], "mb"), number(live.cpu_percent[n], "percent"))), 3, "nothing sampled yet");
    list(at("trouble"), live.trouble);
    at("trouble-card").hidden = !live.trouble.length;
  };

  // A row stays the same element while its fault lives, so that its button keeps the focus.
  const known_rows = new Map();
  const words = (values) => Object.entries(values).filter(([, v]) => v !== null).map(([k, v]) => `${k.replaceAll("_", " ")} ${v}`).join(", ");
  const stateOf = (f, now) => {
    if (f.state === "planned" && !known(f.plan_from_s)) return f.detail || "planned";
    if (f.state === "planned") return f.plan_from_s > now ? `in ${(f.plan_from_s - now).toFixed(0)} s` : "measuring the calm";
    return f.state;
  };
  const rowsOfFaults = (live) => {
    for (const name of [...known_rows.keys()]) if (!live.faults.some((f) => f.name === name)) known_rows.delete(name);
    const made = live.faults.map((f) => {
      if (!known_rows.has(f.name)) {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.end = f.name;
        known_rows.set(f.name, { tr: row(...Array.from({ length: 8 }, () => cell("")), cell(button)), button });
      }
      const { tr, button } = known_rows.get(f.name), cells = tr.children;
      const acted = known(f.from_s), over = ["healed", "failed"].includes(f.state);
      const put_text = (i, value) => text(cells[i], value);
      put_text(0, f.name + (f.by_hand ? " ☛" : "")); cells[0].title = f.by_hand ? "by hand" : "planned by the profile";
      put_text(1, f.kind); put_text(2, f.link); put_text(3, stateOf(f, live.now_s));
      for (const [i, is, plan] of [[4, f.from_s, f.plan_from_s], [5, f.to_s, f.plan_to_s]]) {
        const value = known(is) ? is : over ? null : plan;
        cells[i].className = known(is) ? "r" : "r planned";
        cells[i].replaceChildren(known(value) ? Tickstorm.show(value, "s") : dash());
      }
      put_text(6, words(f.asked) || "–");
      const proof = f.proved === null ? "" : f.proved ? "proved" : "not proved";
      put_text(7, [proof, words(f.effective), over && !acted || f.proved === false ? f.detail : ""].filter(Boolean).join("; ") || "–");
      button.hidden = over;
      text(button, acted || f.by_hand ? "heal" : "drop");
      button.setAttribute("aria-label", `${button.textContent} ${f.name}`);
      return tr;
    });
    const body = at("faults");
    if (!made.length) return rows(body, [], 9, "none so far");
    if (made.length !== body.children.length || made.some((tr, i) => body.children[i] !== tr)) body.replaceChildren(...made);
  };

  const panels = [...document.querySelectorAll("[data-panel]")].map((figure) => ({
    name: figure.dataset.panel, unit: figure.dataset.unit, pattern: new RegExp(figure.dataset.pattern),
    sampled: "sampled" in figure.dataset,
    keys: figure.querySelector(".keys"), slots: new Map(),
  }));
  const DASH = ["solid", "dashed", "dotted", "double"];
  const SLOTS = 8;
  const label = (name) => name.replace(new RegExp(page.dataset.unsaid, "g"), "").replaceAll("_", " ");
  const slotOf = (panel, name) => {
    if (!panel.slots.has(name)) {
      const slot = panel.slots.size;
      if (slot >= SLOTS) return null;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "key";
      button.dataset.renderer = panel.name + ":" + slot;
      button.setAttribute("aria-pressed", "true");
      button.title = "show or hide";
      const line = document.createElement("i"), latest = document.createElement("b");
      line.style.cssText = `border-top-color:var(--c-${slot + 1});border-top-style:${DASH[slot % 4]}`;
      button.append(line, label(name), " ", latest);
      panel.keys.append(button);
      panel.slots.set(name, { source: Tickstorm.named(`data:${panel.name}:${slot}`), latest });
    }
    return panel.slots.get(name);
  };
  const last = (values) => { for (let i = values.length - 1; i >= 0; i--) if (known(values[i])) return values[i]; return null; };
  // The server sends the last seconds only; what came before is kept here.
  let series = { t: [] };
  const merge = (news) => {
    const start = news.t && news.t.length ? news.t[0] : Infinity;
    const keep = series.t.filter((t) => t < start - 0.5).length, width = keep + (news.t || []).length;
    const names = new Set([...Object.keys(series), ...Object.keys(news)]);
    const merged = {};
    for (const name of names) {
      const old = (series[name] || []).slice(0, keep);
      while (old.length < keep) old.push(null);
      merged[name] = old.concat(news[name] || []);
      while (merged[name].length < width) merged[name].push(null);
    }
    if (news.t && news.t.length) series = merged;
  };
  const plots = (live) => {
    merge(live.series);
    const names = Object.keys(series).filter((n) => n !== "t"), times = series.t;
    for (const panel of panels) {
      for (const name of names.filter((n) => panel.pattern.test(n))) {
        const slot = slotOf(panel, name);
        if (!slot) continue;
        const values = series[name];
        let t = times, y = values.map((v) => (known(v) ? v : NaN));
        if (panel.sampled) { t = times.filter((_, i) => known(values[i])); y = values.filter(known); }
        slot.source.data = { t, y };
        put(slot.latest, last(values), panel.unit);
      }
    }
    const acted = live.faults.filter((f) => known(f.from_s));
    Tickstorm.named("faults").data = { from: acted.map((f) => f.from_s), to: acted.map((f) => (known(f.to_s) ? f.to_s : live.now_s)) };
    const back = acted.filter((f) => known(f.to_s));
    Tickstorm.named("recoveries").data = { from: back.map((f) => f.to_s), to: back.map((f) => backAt(f, live)) };
    Tickstorm.named("notes").data = { at: live.notes.map((n) => n.at_s) };
    list(at("notes"), live.notes.map((n) => `${n.at_s.toFixed(1)} s: ${n.text}`));
    const end = Math.max(live.now_s, 1), first = times.length ? times[0] : 0;
    const whole = [first, Math.max(live.plan_s, end, 10)];
    const [start, stop] = at("follow").getAttribute("aria-pressed") === "true" ? [Math.max(0, end - 60), Math.max(end, 60)] : whole;
    Tickstorm.named("time").setv({ start, end: stop });
  };

  // Until when a recovery goes on: everybody fresh, its limit, or now.
  const backAt = (f, live) => {
    if (f.fresh >= live.planned && known(f.fresh_s)) return Math.max(f.to_s, f.fresh_s);
    return Math.min(live.now_s, f.to_s + (known(f.limit_s) ? f.limit_s : Infinity));
  };

  let run = null;
  const clear = () => {
    for (const panel of panels) {
      for (const slot of panel.slots.values()) slot.source.data = { t: [], y: [] };
      panel.slots.clear();
      panel.keys.replaceChildren();
    }
    series = { t: [] };
    known_rows.clear();
  };
  const show = (live) => {
    if (run !== live.run) { clear(); run = live.run; }
    head(live);
    numbers(live);
    tables(live);
    plots(live);
    document.dispatchEvent(new CustomEvent("tickstorm", { detail: live }));
    document.documentElement.dataset.shown = live.state;
  };
  const held = () => document.hidden || at("pause").getAttribute("aria-pressed") === "true";
  const ask = async () => {
    if (!held()) {
      try {
        const since = run && series.t.length ? "?since=" + series.t[series.t.length - 1] : "";
        const answer = await fetch(`${page.dataset.base}/live.json${since}`, { cache: "no-store", credentials: "same-origin" });
        if (answer.redirected || !answer.ok) throw new Error("answered " + answer.status);
        const live = await answer.json();
        if (since && live.run !== run) { run = null; series = { t: [] }; setTimeout(ask, 0); return; }
        show(live);
      } catch (error) {
        text(at("word"), "no answer from Locust");
        at("word").className = "verdict unknown";
        text(at("phase"), "asking again each second; " + error.message);
      }
    }
    setTimeout(ask, EVERY_MS);
  };
  for (const id of ["follow", "pause"]) {
    at(id).addEventListener("click", (event) => {
      const button = event.currentTarget;
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    });
  }
  const begin = () => (document.documentElement.dataset.drawn === "true" ? ask() : setTimeout(begin, 50));
  addEventListener("DOMContentLoaded", begin);
})();
