// What may I do to the run?  Buttons, the form of a fault, notes, the count since a healing; the browser adds the token to every change.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const forms = new Map(JSON.parse(at("forms").textContent).map((form) => [form.kind, form]));
  const known = (v) => typeof v === "number" && Number.isFinite(v);
  let live = { links: [], services: [], consumers: [], publishers: [], faults: [], planned: 0, now_s: 0, closed: "", refused: {} }, heard = 0;

  const post = async (what, body) => {
    let answer;
    try {
      answer = await fetch(`tickstorm/${what}`, {
        method: "POST", credentials: "same-origin", cache: "no-store", redirect: "manual",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
    } catch (error) {
      throw new Error("no answer from Locust: " + error.message);
    }
    if (answer.type === "opaqueredirect") throw new Error("Locust asks for its login: reload the page");
    const found = await answer.json().catch(() => ({ error: "answered " + answer.status }));
    if (!answer.ok) throw new Error(found.error || "answered " + answer.status);
    return found;
  };
  const SAID_MS = 20_000;
  let forget = 0;
  const say = (text, bad) => {
    clearTimeout(forget);
    forget = setTimeout(() => { at("said").textContent = ""; }, SAID_MS);
    at("said").textContent = text;
    at("said").className = bad ? "bad" : "";
  };
  const told = (faults, none) => say(faults.length ? "Told to end: " + faults.join(", ") + "." : none);
  const heal = (body, none) => post("heal", body).then((found) => told(found.faults, none)).catch((error) => say(error.message, true));

  // -- the form of a fault
  const FOR_S = 5;
  const UNITS = { ms: "ms", s: "s", mb: "MB", kb: "KB", us: "µs", bytes: "bytes", percent: "%" };
  const wording = (key) => {
    const words = key.split("_"), rate = key.match(/^(.*)_(kb|bytes)_per_s$/);
    if (rate) return `${rate[1].replaceAll("_", " ")} in ${UNITS[rate[2]]}/s`;
    if (words.length > 1 && UNITS[words.at(-1)]) return `${words.slice(0, -1).join(" ")} in ${UNITS[words.at(-1)]}`;
    return words.join(" ");
  };
  const field = (name, label, input) => {
    const holder = document.createElement("label");
    input.name = name;
    holder.append(label, input);
    return holder;
  };
  const select = (choices, value) => {
    const made = document.createElement("select");
    for (const choice of choices) {
      const [key, words] = Array.isArray(choice) ? choice : [choice, choice];
      made.add(new Option(words, key, false, key === value));
    }
    return made;
  };
  const amount = (of) => {
    if (of.kind === "choice" || of.kind === "yes") {
      const choices = of.kind === "yes" ? ["true", "false"] : of.choices;
      return select(of.needed ? choices : [["", "–"], ...choices], of.offered);
    }
    const input = document.createElement("input");
    input.autocomplete = "off";
    if (of.kind !== "words") {
      input.type = "number";
      input.step = of.kind === "whole" ? "1" : "any";
      if (known(of.at_least)) input.min = of.at_least;
      if (known(of.at_most)) input.max = of.at_most;
    }
    if (of.needed || of.key in remembered) input.value = remembered[of.key] ?? of.offered ?? "";
    if (!of.needed) input.placeholder = "as it is";
    return input;
  };
  const remembered = {};
  const WHERE = { link: () => live.links.map((l) => l.name), consumers: () => [["", "all"], ...live.consumers], publishers: () => [["", "all"], ...live.publishers] };
  const reasonOf = (kind, why) => why.replace(`kind: found "${kind}", `, "").replaceAll(`"${kind}"`, "this kind");
  const refusal = (kind, place) => reasonOf(kind, live.refused[kind] || live.refused[`${kind} ${place}`] || "");
  let opener = null;
  const fill = (kinds, kind, place) => {
    const form = forms.get(kind), fields = at("ask-fields");
    const places = form.place === "service" ? form.places : form.place in WHERE ? WHERE[form.place]() : null;
    const choice = select(kinds.map((k) => [k, refusal(k, place) ? `${k}: refused` : k]), kind);
    for (const option of choice.options) option.disabled = Boolean(refusal(option.value, place));
    choice.addEventListener("change", () => { fill(kinds, choice.value, place); at("ask-fields").querySelector("select").focus(); });
    fields.replaceChildren(field("kind", "what", choice));
    if (places) fields.append(field(form.place, form.place === "link" ? "link" : form.place === "service" ? "service" : form.place + " group", select(places, place)));
    for (const of of form.amounts) fields.append(field(of.key, wording(of.key), amount(of)));
    if (form.directions) fields.append(field("direction", "direction", select(["both", "downstream", "upstream"], "both")));
    fields.append(field("for_s", "for how long, in s", amount({ key: "for_s", kind: "number", needed: true, at_least: 0.1, at_most: 86400, offered: FOR_S })));
    at("ask-help").textContent = form.help;
    const there = at("ask-fields").querySelector(`[name=${form.place}]`);
    const judge = () => {
      const why = refusal(kind, there ? there.value : "");
      at("ask-lead").textContent = why && `Not to be played here: ${why}.`;
      at("ask-play").disabled = Boolean(why);
    };
    if (there) there.addEventListener("change", judge);
    judge();
    at("ask-error").textContent = "";
  };
  const ask = (kinds, place, title, from) => {
    opener = from;
    at("ask-title").textContent = title;
    fill(kinds, kinds.find((kind) => !refusal(kind, place)) || kinds[0], place);
    at("ask").showModal();
    (at("ask-fields").querySelector("input") || at("ask-fields").querySelector("select")).focus();
  };
  const asked = () => {
    const form = forms.get(at("ask-fields").querySelector("[name=kind]").value), found = {};
    const kinds = Object.fromEntries(form.amounts.map((of) => [of.key, of.kind]));
    kinds.for_s = "number";
    for (const input of at("ask-fields").querySelectorAll("[name]")) {
      const value = input.value.trim();
      if (value === "") continue;
      const of = kinds[input.name];
      if ((of === "whole" || of === "number") && Number.isFinite(Number(value))) { found[input.name] = Number(value); remembered[input.name] = value; }
      else found[input.name] = of === "yes" ? value === "true" : value;
    }
    return found;
  };
  at("ask-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("ask-play").disabled = true;
    try {
      const body = asked(), found = await post("fault", body);
      at("ask").close();
      say(`${found.fault}: ${body.kind} on ${body.link || body.service || body.consumers || body.publishers || "the target"}, in about a second.`);
    } catch (error) {
      at("ask-error").textContent = error.message;
    } finally {
      at("ask-play").disabled = false;
    }
  });
  at("ask-cancel").addEventListener("click", () => at("ask").close());
  at("ask").addEventListener("close", () => opener && opener.isConnected && opener.focus());

  // -- buttons
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { kinds, place, heal: where, end } = button.dataset;
    if (kinds) ask(kinds.split(" "), place, `${button.textContent[0].toUpperCase()}${button.textContent.slice(1)} ${place}`, button);
    else if (where) heal({ place: where }, `Nothing is broken on ${where}.`);
    else if (end) heal({ fault: end }, "");
  });
  at("heal-all").addEventListener("click", () => heal({ plan: at("heal-plan").checked }, "Nothing is broken."));
  at("other").addEventListener("click", (event) => ask([...forms.keys()], "", "Another fault", event.currentTarget));
  at("note").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("note", { text: at("note-text").value });
      at("note-text").value = "";
      say("Noted.");
    } catch (error) {
      say(error.message, true);
    }
  });

  // -- counted up live: the clock goes on between two answers of the server
  const since = () => {
    const now = live.now_s + (live.state === "running" ? Math.min(2, (performance.now() - heard) / 1000) : 0), lines = [];
    for (const f of live.faults) {
      const by = f.kind + " on " + f.link;
      if (f.state === "active" && known(f.from_s)) lines.push(["broken", `${f.name} (${by}): ${(now - f.from_s).toFixed(1)} s in force, ${known(f.plan_to_s) ? Math.max(0, f.plan_to_s - now).toFixed(0) + " s to go" : ""}`]);
      else if (f.state === "announced" || (f.state === "planned" && f.by_hand)) lines.push(["coming", `${f.name} (${by}): measuring the calm before it`]);
      else if (f.state === "not lifted") lines.push(["broken", `${f.name} (${by}) could not be lifted: ${f.detail}`]);
      else if (known(f.to_s)) {
        const all = f.fresh >= live.planned && known(f.fresh_s), limit = known(f.limit_s) ? f.limit_s : 30;
        if (all && now - f.fresh_s > 20 && !f.by_hand) continue;
        if (all) lines.push(["open", `${f.name}: all ${live.planned} clients fresh ${Math.max(0, f.fresh_s - f.to_s).toFixed(1)} s after heal`]);
        else if (now - f.to_s < limit && live.state === "running") lines.push(["coming", `${f.name}: ${Math.max(0, now - f.to_s).toFixed(1)} s since heal, ${f.fresh} of ${live.planned} clients fresh`]);
        else lines.push(["broken", `${f.name}: ${f.fresh} of ${live.planned} clients fresh within ${Math.min(limit, live.now_s - f.to_s).toFixed(1)} s`]);
      }
    }
    const next = live.faults.filter((f) => f.state === "planned" && !f.by_hand && known(f.plan_from_s) && f.plan_from_s > now).sort((a, b) => a.plan_from_s - b.plan_from_s)[0];
    if (next && live.state === "running") lines.push(["planned", `next in the plan: ${next.name} (${next.kind} on ${next.link}) in ${(next.plan_from_s - now).toFixed(0)} s`]);
    const holder = at("recovering"), shown = lines.slice(-4);
    holder.hidden = !shown.length;
    while (holder.children.length > shown.length) holder.lastElementChild.remove();
    shown.forEach(([kind, text], i) => {
      const li = holder.children[i] || holder.appendChild(document.createElement("li"));
      if (li.className !== kind) li.className = kind;
      if (li.textContent !== text) li.textContent = text;
    });
  };
  document.addEventListener("tickstorm", (event) => {
    live = event.detail;
    heard = performance.now();
    hands(live.closed);
    refusals();
    since();
  });
  document.addEventListener("tickstorm-gone", (event) => {
    for (const other of document.querySelectorAll("#note button, #heal-plan, #start-now")) other.disabled = event.detail;
    if (event.detail) hands("Locust does not answer");
  });
  let closedNow = "";
  document.addEventListener("tickstorm-drawn", () => hands(closedNow));
  const hands = (closed) => {
    closedNow = closed;
    for (const button of document.querySelectorAll("[data-kinds], [data-heal], [data-end], #heal-all, #other")) {
      const { kinds, place } = button.dataset, why = kinds ? kinds.split(" ").map((kind) => refusal(kind, place)) : [""];
      const reason = closed || (why.every(Boolean) ? why[0] : "");
      button.disabled = Boolean(reason);
      if (button.title !== reason) button.title = reason;
    }
  };
  let refusedNow = "";
  const refusals = () => {
    const kinds = new Map();
    for (const [what, why] of Object.entries(live.refused)) {
      const reason = reasonOf(what.split(" ")[0], why);
      kinds.set(reason, [...(kinds.get(reason) || []), what]);
    }
    const lines = [...kinds].map(([why, whats]) => `Not to be played in this run: ${whats.join(", ")}. ${why[0].toUpperCase()}${why.slice(1)}.`), holder = at("refused");
    if (refusedNow === lines.join()) return;
    refusedNow = lines.join();
    holder.hidden = !lines.length;
    holder.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  };
  setInterval(() => live.state === "running" && !document.hidden && since(), 200);
})();
