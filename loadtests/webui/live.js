// How does the run go right now?  Asks `live.json` once a second and shows what it says; keeps no history of its own.
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
    if (done) at("report-link").href = page.dataset.reports.replace("RUN", encodeURIComponent(live.run));
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
    rows(at("faults"), live.faults.map((f) => row(
      cell(f.name), cell(f.kind), cell(f.link), cell(f.state), number(f.from_s, "s"), number(f.to_s, "s"),
      cell(f.proved === null ? dash() : f.proved ? "yes" : "no"),
    )), 7, "none so far");
    const names = [...new Set([...Object.keys(live.memory_mb), ...Object.keys(live.cpu_percent)])].sort();
    rows(at("processes"), names.map((n) => row(cell(n), number(live.memory_mb[n], "mb"), number(live.cpu_percent[n], "percent"))), 3, "nothing sampled yet");
    list(at("trouble"), live.trouble);
    at("trouble-card").hidden = !live.trouble.length;
  };

  const panels = [...document.querySelectorAll("[data-panel]")].map((figure) => ({
    name: figure.dataset.panel, unit: figure.dataset.unit, pattern: new RegExp(figure.dataset.pattern),
    keys: figure.querySelector(".keys"), slots: new Map(),
  }));
  const SAMPLED = new Set(["connected", "memory", "cpu"]);
  const DASH = ["solid", "dashed", "dotted", "double"];
  const SLOTS = 8;
  const label = (name) => name.replace(/^(memory|rss|uss|cpu)(_mb|_percent)?[:/. ]+|^latency_|(_ms|_per_s)$/g, "").replaceAll("_", " ");
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
  const plots = (live) => {
    const names = Object.keys(live.series).filter((n) => n !== "t");
    const times = live.series.t || (names.length ? live.series[names[0]].map((_, i) => i) : []);
    for (const panel of panels) {
      for (const name of names.filter((n) => panel.pattern.test(n))) {
        const slot = slotOf(panel, name);
        if (!slot) continue;
        const values = live.series[name];
        let t = times, y = values.map((v) => (known(v) ? v : NaN));
        if (SAMPLED.has(panel.name)) { t = times.filter((_, i) => known(values[i])); y = values.filter(known); }
        slot.source.data = { t, y };
        put(slot.latest, last(values), panel.unit);
      }
    }
    const acted = live.faults.filter((f) => known(f.from_s));
    Tickstorm.named("faults").data = { from: acted.map((f) => f.from_s), to: acted.map((f) => (known(f.to_s) ? f.to_s : live.now_s)) };
    const end = Math.max(live.now_s, 1), first = times.length ? times[0] : 0;
    const whole = [first, Math.max(live.plan_s, end, 10)];
    const [start, stop] = at("follow").getAttribute("aria-pressed") === "true" ? [Math.max(0, end - 60), Math.max(end, 60)] : whole;
    Tickstorm.named("time").setv({ start, end: stop });
  };

  let run = null;
  const clear = () => {
    for (const panel of panels) {
      for (const slot of panel.slots.values()) slot.source.data = { t: [], y: [] };
      panel.slots.clear();
      panel.keys.replaceChildren();
    }
  };
  const show = (live) => {
    if (run !== live.run) { clear(); run = live.run; }
    head(live);
    numbers(live);
    tables(live);
    plots(live);
    document.documentElement.dataset.shown = live.state;
  };
  const held = () => document.hidden || at("pause").getAttribute("aria-pressed") === "true";
  const ask = async () => {
    if (!held()) {
      try {
        const answer = await fetch(page.dataset.live, { cache: "no-store", credentials: "same-origin" });
        if (answer.redirected || !answer.ok) throw new Error("answered " + answer.status);
        show(await answer.json());
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
