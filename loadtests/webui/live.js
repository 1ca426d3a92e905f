// How does the run go right now?  Asks `live.json` once a second and shows what it says; the other scripts hear it too.
"use strict";
(() => {
  const EVERY_MS = 1000, TIMEOUT_MS = 5000, GONE_S = 3;
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
  const cell = (text, right, tag = "td") => {
    const td = document.createElement(tag);
    if (right) td.className = "r";
    td.replaceChildren(text);
    return td;
  };
  const headed = (text) => Object.assign(cell(text, false, "th"), { scope: "row" });
  // On a narrow screen a cell stands below the others, with its column's name before it.
  const labelled = (body, made) => {
    const names = [...body.closest("table").tHead.rows[0].cells].map((th) => th.textContent);
    for (const tr of made) for (const [i, td] of [...tr.cells].entries()) if (i) td.dataset.label = names[i];
  };
  const number = (value, unit) => cell(known(value) ? Tickstorm.show(value, unit) : dash(), true);
  const rows = (body, made, width, empty) => {
    if (!made.length) {
      made = [row(cell(empty))];
      Object.assign(made[0].firstElementChild, { colSpan: width, className: "words" });
    } else labelled(body, made);
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

  const reportOf = (run) => `tickstorm/reports/${encodeURIComponent(run)}/report.html`;
  const MARKS = { PASS: "✔ ", FAIL: "✖ ", ABORTED: "■ ", UNKNOWN: "? " };
  const over = (live) => live.state === "judging" || live.state === "done";
  const head = (live) => {
    text(at("title"), live.run ? live.profile + ": live" : "Tickstorm");
    text(at("run"), live.run ? "run " + live.run : "no run yet");
    const word = at("word"), verdict = MARKS[live.verdict] ? live.verdict : "";
    text(word, verdict ? MARKS[verdict] + verdict : live.state);
    word.className = "verdict " + (verdict ? verdict.toLowerCase() : "neutral");
    at("state").className = "card banner " + verdict.toLowerCase();
    const active = live.faults.filter((f) => f.state === "active" && !stands).map((f) => f.name);
    text(at("phase"), [live.state === "done" || (live.phase === "fault" && active.length) ? "" : live.phase, active.length ? "fault now: " + active.join(", ") : ""].filter(Boolean).join("; "));
    list(at("reasons"), live.reasons);
    const done = Boolean(live.report) && Boolean(live.run);
    at("report").hidden = !done;
    if (done) at("report-link").href = reportOf(live.run);
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
    text(at("when"), stands ? "At the end" : "Now");
    at("as-of").replaceChildren(...(live.judged
      ? ["The counts are the report's, as judged from the stored history."]
      : ["Counts of the run so far, told ", aged(0), "; latency of what was received in ", ...(known(live.age_s) ? ["the second that ended ", aged(live.age_s), "."] : ["no second: none of the last few is known as a whole."])]));
  };

  // Every figure is as old as it was when Locust told it, and what has passed since.
  let heard = 0, asking = Infinity, stands = false;
  const ago = (age) => `${Math.round(age + (stands ? 0 : (performance.now() - heard) / 1000))} s`;
  const aged = (age) => {
    const made = document.createElement("span");
    if (known(age)) made.dataset.age = age;
    made.textContent = known(age) ? agedText(made) : "–";
    return made;
  };
  const agedText = (element) => ago(Number(element.dataset.age)) + ("short" in element.dataset ? "" : stands ? " before the end" : " ago");
  const tick = () => {
    for (const element of document.querySelectorAll("[data-age]")) text(element, agedText(element));
    const silent = (performance.now() - Math.max(heard, asking)) / 1000, still = held(), gone = !still && silent > GONE_S;
    const told = `${Math.round((performance.now() - heard) / 1000)} s`;
    at("gone").hidden = !gone && !(still && heard);
    at("gone-heal").hidden = !gone;
    text(at("gone-said"), gone ? "No answer from Locust." : still ? "Held still." : "");
    text(at("gone-since"), heard ? `What stands below is ${told} old.` : "");
    if (gone !== page.classList.contains("gone")) {
      page.classList.toggle("gone", gone);
      document.dispatchEvent(new CustomEvent("tickstorm-gone", { detail: gone }));
    }
    if (gone && !stands) {  // a verdict stays one
      text(at("word"), "no answer from Locust");
      at("word").className = "verdict unknown";
      at("state").className = "card banner unknown";
      text(at("phase"), "asking again each second");
    }
  };
  setInterval(tick, 500);
  document.addEventListener("visibilitychange", () => { asking = performance.now(); });

  const tables = (live) => {
    rowsOfFaults(live);
    const names = [...new Set([...Object.keys(live.memory_mb), ...Object.keys(live.cpu_percent)])].sort();
    rows(at("processes"), names.map((n) => row(headed(n), number(live.memory_mb[n], "mb"), number(live.cpu_percent[n], "percent"), cell(aged(live.read_age_s[n]), true))), 4, "nothing sampled yet");
    list(at("trouble"), live.trouble);
    at("trouble-card").hidden = !live.trouble.length;
  };

  // A row stays the same element while its fault lives, so that its button keeps the focus.
  const known_rows = new Map();
  const UNITS = { ms: "ms", s: "s", mb: "MB", kb: "KB", us: "µs", percent: "%" };
  const worded = ([key, value]) => {
    const named = key.split("_"), rate = key.endsWith("_per_s"), unit = UNITS[named.at(rate ? -3 : -1)];
    const what = unit ? named.slice(0, rate ? -3 : -1) : named;
    return [what.join(" "), value, unit ? unit + (rate ? "/s" : "") : ""].filter((word) => word !== "").join(" ");
  };
  const words = (values) => Object.entries(values).filter(([, v]) => v !== null).map(worded).join(", ");
  const stateOf = (f, now) => {
    if (f.state === "planned" && stands) return "did not come";
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
        known_rows.set(f.name, { tr: row(headed(""), ...Array.from({ length: 7 }, () => cell("")), cell(button)), button });
        labelled(at("faults"), [known_rows.get(f.name).tr]);
      }
      const { tr, button } = known_rows.get(f.name), cells = tr.children;
      const acted = known(f.from_s), past = ["healed", "failed"].includes(f.state);
      const put_text = (i, value) => text(cells[i], value);
      put_text(0, f.name + (f.by_hand ? " ☛" : "")); cells[0].title = f.by_hand ? "by hand" : "planned by the profile";
      put_text(1, f.kind); put_text(2, f.link); put_text(3, stateOf(f, live.now_s));
      for (const [i, is, plan] of [[4, f.from_s, f.plan_from_s], [5, f.to_s, f.plan_to_s]]) {
        const value = known(is) ? is : past ? null : plan;
        cells[i].className = known(is) ? "r" : "r planned";
        cells[i].replaceChildren(known(value) ? Tickstorm.show(value, "s") : dash());
      }
      put_text(6, words(f.asked) || "–");
      const proof = f.proved === null ? "" : f.proved ? "proved" : "not proved";
      put_text(7, [proof, words(f.effective), past && !acted || f.proved === false ? f.detail : ""].filter(Boolean).join("; ") || "–");
      button.hidden = cells[8].hidden = past || stands;
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
    sampled: "sampled" in figure.dataset, figure,
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
      const line = document.createElement("i"), latest = document.createElement("b"), age = document.createElement("small");
      age.className = "age";
      line.style.cssText = `border-top-color:var(--c-${slot + 1});border-top-style:${DASH[slot % 4]}`;
      button.append(line, label(name), " ", latest, " ", age);
      panel.keys.append(button);
      panel.slots.set(name, { source: Tickstorm.named(`data:${panel.name}:${slot}`), latest, age });
    }
    return panel.slots.get(name);
  };
  const NOW_S = 4, SAMPLED_S = 12;  // an older value is none of now
  const tell = ({ latest, age }, values, panel, live) => {
    const i = values.findLastIndex(known), since = i < 0 || stands ? NaN : Math.max(0, live.now_s - series.t[i] - 1);
    const now = since < (panel.sampled ? SAMPLED_S : NOW_S);
    if (stands) latest.replaceChildren();  // there is no now
    else put(latest, now ? values[i] : null, panel.unit);
    if (now) Object.assign(age.dataset, { age: since, short: "" });
    else delete age.dataset.age;
    if (!now) text(age, "");
  };
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
        tell(slot, values, panel, live);
      }
      panel.figure.hidden = !panel.slots.size;
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

  let run = null, problem = "";
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
    heard = performance.now();
    stands = over(live);
    if (problem !== live.problem) {
      problem = live.problem;
      text(at("start-said"), problem && `The last start came to nothing: ${problem}`);
    }
    if (page.dataset.state !== live.state) {
      page.dataset.state = live.state;
      offer(live);
    }
    head(live);
    numbers(live);
    tables(live);
    plots(live);
    document.dispatchEvent(new CustomEvent("tickstorm", { detail: live }));
    document.documentElement.dataset.shown = live.state;
    tick();
  };

  // While no run goes on: what can be started, and what there was.
  const offer = async (live) => {
    const between = live.state === "idle" || live.state === "done";
    at("between").hidden = !between;
    if (!between) return;
    try {
      const found = await (await fetch("tickstorm/between.json", { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) })).json();
      const before = at("start").elements.profile?.value || found.chosen;
      at("profiles").replaceChildren(...found.profiles.map((p) => profileOf(p, p.name === before)));
      rows(at("runs"), found.runs.map(pastOf), 3, "");
      at("past").hidden = !found.runs.length;
    } catch (error) {
      text(at("start-said"), "what can be started is not known: " + error.message);
    }
  };
  const profileOf = (profile, chosen) => {
    const label = document.createElement("label"), input = document.createElement("input"), name = document.createElement("b"), more = document.createElement("small");
    Object.assign(input, { type: "radio", name: "profile", value: profile.name, checked: chosen, disabled: Boolean(profile.problem) });
    name.textContent = profile.label;
    if (!profile.problem) more.textContent = `${Tickstorm.show(profile.users, "count")} users, ${Math.round(profile.plan_s)} s`;
    label.append(input, name, " ", more, document.createElement("br"), profile.problem || profile.question);
    return label;
  };
  const pastOf = (past) => {
    const name = headed(past.run), verdict = document.createElement("span"), said = MARKS[past.verdict] ? past.verdict : "";
    if (past.page) {
      const link = document.createElement("a");
      link.href = reportOf(past.run);
      link.textContent = past.run;
      name.replaceChildren(link);
    }
    verdict.textContent = said ? MARKS[said] + said : "not judged";
    verdict.className = "verdict " + (said ? said.toLowerCase() : "neutral");
    return row(name, cell(verdict), cell(said ? past.reason : "tickstorm analyze " + past.run));
  };
  at("start").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("start-now").disabled = true;
    text(at("start-said"), "starting …");
    try {
      const answer = await fetch("swarm", { method: "POST", credentials: "same-origin", redirect: "manual", body: new URLSearchParams({ run_profile: at("start").elements.profile.value }) });
      if (answer.type === "opaqueredirect") throw new Error("Locust asks for its login: reload the page");
      const said = await answer.json().catch(() => ({ success: false, message: "answered " + answer.status }));
      if (!said.success) throw new Error(said.message);
      text(at("start-said"), "");
    } catch (error) {
      text(at("start-said"), "Not started: " + error.message);
    }
    at("start-now").disabled = false;
  });
  const held = () => document.hidden || at("pause").getAttribute("aria-pressed") === "true";
  const ask = async () => {
    if (!held()) {
      try {
        const since = run && series.t.length ? "?since=" + series.t[series.t.length - 1] : "";
        const answer = await fetch(`tickstorm/live.json${since}`, { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) });
        if (answer.redirected || !answer.ok) throw new Error("answered " + answer.status);
        const live = await answer.json();
        if (since && live.run !== run) { run = null; series = { t: [] }; setTimeout(ask, 0); return; }
        show(live);
      } catch (error) {
        console.debug(error.message);  // `tick` says for how long there is no answer
      }
    } else asking = performance.now();
    setTimeout(ask, EVERY_MS);
  };
  for (const id of ["follow", "pause"]) {
    at(id).addEventListener("click", (event) => {
      const button = event.currentTarget;
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      asking = performance.now();
    });
  }
  const begin = () => {
    if (document.documentElement.dataset.drawn !== "true") return setTimeout(begin, 50);
    asking = performance.now();
    return ask();
  };
  addEventListener("DOMContentLoaded", begin);
})();
