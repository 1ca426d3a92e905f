// Where does it flow, and what is broken?  Draws the pipeline from the links in `live.json`; its buttons ask `manual_faults.js`.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const holder = document.getElementById("picture");
  const narrow = matchMedia("(max-width: 900px)");
  const PEOPLE = { publisher: "publishers", client: "clients" };
  const LINK_HANDS = [["slow", ["latency", "bandwidth", "slicer"]], ["cut", ["down", "black-hole", "flap"]], ["reset", ["reset"]]];
  const SERVICE_HANDS = ["kill", "pause", "restart"];
  const known = (v) => typeof v === "number" && Number.isFinite(v);

  // Boxes are [x, y, width, height]; cards of links are given by their middle.
  const PLANS = {
    wide: {
      size: [1230, 440], card: [204, 124],
      boxes: {
        publisher: [0, 42, 112, 60], redis: [338, 12, 164, 120], gateway: [728, 12, 164, 120], client: [1118, 42, 112, 60],
        producer: [0, 312, 164, 120], postgres: [728, 312, 164, 120], toxiproxy: [1066, 312, 164, 120],
      },
      cards: {
        "publisher-redis": [225, 72], "gateway-redis": [615, 72], "client-gateway": [1005, 72],
        "producer-redis": [262, 222], "producer-postgres": [446, 372], "gateway-postgres": [810, 222],
      },
      more: [0, 452], columns: 6,
    },
    narrow: {
      size: [360, 1330], card: [176, 124],
      boxes: {
        publisher: [110, 0, 140, 48], redis: [92, 192, 176, 120], gateway: [92, 464, 176, 120], client: [110, 736, 140, 48],
        producer: [0, 806, 176, 120], postgres: [184, 806, 176, 120], toxiproxy: [92, 1206, 176, 120],
      },
      cards: {
        "publisher-redis": [180, 116], "gateway-redis": [180, 388], "client-gateway": [180, 660],
        "producer-postgres": [180, 1002], "producer-redis": [88, 1134], "gateway-postgres": [272, 1134],
      },
      more: [0, 1336], columns: 2,
    },
  };

  const element = (name, attributes = {}, ...inside) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const html = (name, attributes = {}, ...inside) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const age = () => html("small", { class: "age" });
  const hand = (label, what, data) => {
    const button = html("button", { type: "button", "aria-label": `${label} ${what}` }, label);
    Object.assign(button.dataset, data);
    return button;
  };
  const within = (x, y, width, height, inside) => element("foreignObject", { x, y, width, height }, inside);
  const edge = ([x, y, w, h], [tx, ty]) => {
    const cx = x + w / 2, cy = y + h / 2, dx = tx - cx, dy = ty - cy;
    const scale = Math.min(Math.abs(dx) > 0.1 ? w / 2 / Math.abs(dx) : Infinity, Math.abs(dy) > 0.1 ? h / 2 / Math.abs(dy) : Infinity);
    return scale < 1 ? [cx + dx * scale, cy + dy * scale] : [cx, cy];
  };

  let drawn = "", parts = {};
  // Messages flow from who publishes to who listens, whoever opened the connection.
  const flow = (link) => (link.client === "publisher" || link.client === "producer" || link.server === "postgres" ? [link.client, link.server] : [link.server, link.client]);

  const build = (live) => {
    const key = (narrow.matches ? "n" : "w") + live.links.map((l) => l.name).join() + live.services.map((s) => s.name).join();
    if (key === drawn) return;
    drawn = key;
    parts = { links: new Map(), services: new Map() };
    const plan = narrow.matches ? PLANS.narrow : PLANS.wide, [cw, ch] = plan.card;
    const boxes = { ...plan.boxes }, cards = { ...plan.cards };
    let extra = 0;
    const place = () => {
      const column = extra % plan.columns, row = Math.floor(extra / plan.columns);
      extra += 1;
      return [plan.more[0] + column * (cw + 8), plan.more[1] + row * (ch + 10)];
    };
    const names = new Set(live.services.map((s) => s.name));
    for (const link of live.links) for (const end of [link.client, link.server]) if (end in PEOPLE) names.add(end);
    for (const name of names) if (!boxes[name]) { const [x, y] = place(); boxes[name] = [x, y, cw, ch]; }
    for (const link of live.links) if (!cards[link.name]) { const [x, y] = place(); cards[link.name] = [x + cw / 2, y + ch / 2]; }
    const height = plan.size[1] + Math.ceil(extra / plan.columns) * (ch + 10);
    const svg = element("svg", { viewBox: `0 0 ${plan.size[0]} ${height}`, role: "group", "aria-label": "The pipeline, its links and services" });
    const arrow = (id) => element("marker", { id: `arrow-${id}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 12, markerHeight: 12, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, element("path", { d: "M0 0 8 4 0 8z", class: id }));
    svg.append(element("defs", {}, arrow("open"), arrow("unknown"), arrow("broken"), arrow("coming")));
    for (const link of live.links) {
      const [from, to] = flow(link), a = boxes[from], b = boxes[to], middle = cards[link.name];
      const far = narrow.matches && (link.name === "producer-redis" || link.name === "gateway-postgres");
      const group = element("g", { class: "link" });
      if (a && b && !far) {
        const start = edge(a, middle), end = edge(b, middle);
        group.append(element("path", { class: "line", d: `M${start} L${middle} L${end}`, "marker-end": "url(#arrow-open)" }));
      }
      const said = { name: html("b", {}, link.name), rate: html("span"), rateAge: age(), delay: html("span"), delayAge: age(), state: html("em") };
      const buttons = html("div", { class: "hand" }, ...LINK_HANDS.map(([label, kinds]) => hand(label, link.name, { kinds: kinds.join(" "), place: link.name })), hand("heal", link.name, { heal: link.name }));
      const card = html("div", { class: "linkcard", role: "group", "aria-label": `link ${link.name}` }, html("p", {}, said.name), html("p", {}, said.rate, said.rateAge), html("p", {}, said.delay, said.delayAge), html("p", {}, said.state), buttons);
      group.append(within(middle[0] - cw / 2, middle[1] - ch / 2, cw, ch, card));
      svg.append(group);
      parts.links.set(link.name, { group, card, ...said, line: group.querySelector(".line") });
    }
    for (const name of names) {
      const [x, y, w, h] = boxes[name], service = live.services.find((s) => s.name === name);
      const said = { use: html("span"), useAge: age(), health: html("span"), healthAge: age(), state: html("em") };
      const inside = html("div", { class: service ? "box" : "box people", role: "group", "aria-label": name }, html("p", {}, html("b", {}, PEOPLE[name] || name)), html("p", {}, said.use, said.useAge));
      if (service) {
        inside.append(html("p", {}, said.health, said.healthAge), html("p", {}, said.state), html("div", { class: "hand" }, ...SERVICE_HANDS.map((kind) => hand(kind, name, { kinds: kind, place: name }))));
      }
      svg.append(within(x, y, w, h, inside));
      parts.services.set(name, { box: inside, ...said });
    }
    holder.replaceChildren(svg);
    document.dispatchEvent(new CustomEvent("tickstorm-drawn"));
  };

  const text = (node, value, title) => {
    if (node.textContent !== value) node.textContent = value;
    if (title !== undefined && node.title !== title) node.title = title;
  };
  // A figure stands with its age, or is a dash: also where it, or the second that it is of, began before the fault of now.
  const figure = (value, shown, atAge, title = "", faults = [], live = null, lasts = 0) => {
    const before = live && faults.some((f) => BROKEN.has(f.state) && known(f.from_s) && live.now_s - atAge - lasts < f.from_s);
    if (value === null || !known(atAge)) return { text: "–", title: "not known now" };
    return before ? { text: "–", title: "what is known is from before the fault" } : { text: shown, age: atAge, title };
  };
  const put = (node, ageNode, found) => {
    text(node, found.text, found.title || "");
    if (!known(found.age)) { delete ageNode.dataset.age; text(ageNode, ""); return; }
    ageNode.dataset.short = "";
    ageNode.dataset.age = found.age;
  };
  const OLD_S = 3;
  const SAW = { silent: "no answer", "no connect": "no answer" };
  const probed = (link) => {
    if (!link.probe) return null;
    const answered = known(link.probe_ms), old = link.probe_age_s > OLD_S;
    const seen = answered ? Tickstorm.show(link.probe_ms, "ms") : SAW[link.probe] || link.probe;
    return { answered, broken: !answered && !old, old, seen, age: link.probe_age_s, title: "last ping of the injector through this link" };
  };
  const delayOf = (link, faults, live) => {
    const probe = probed(link), shown = probe && figure(probe.seen, probe.seen, probe.age, probe.title, probe.answered ? faults : [], live);
    if (probe && probe.broken) return shown;
    const measured = faults.find((f) => f.state === "active" && known(f.effective.latency_ms) && known(f.from_s));
    if (measured) return { text: `+${Tickstorm.show(measured.effective.latency_ms, "ms")} measured`, age: live.now_s - measured.from_s, title: `each way, by the probe of ${measured.name}` };
    if (link.delay_is) {
      const found = known(link.delay_ms) ? figure(link.delay_ms, `${Tickstorm.show(link.delay_ms, "ms")} p50`, link.age_s, link.delay_is, faults, live, 1) : null;
      if (found && known(found.age)) return found;
    }
    return shown || { text: "delay not measured" };
  };
  const WORD = { down: "cut", "black-hole": "silent", reset: "reset", flap: "flapping", latency: "slow", bandwidth: "slow", slicer: "sliced", kill: "killed", pause: "paused", restart: "restarting", failover: "switched over" };
  const BROKEN = new Set(["active", "not lifted"]), STOPS = new Set(["kill", "pause", "restart"]);
  const state = (faults, live) => {
    const now = faults.filter((f) => BROKEN.has(f.state));
    if (now.length) return ["broken", now.map((f) => (f.state === "not lifted" ? "not lifted: " : "") + (WORD[f.kind] || f.kind)).join(", "), now];
    const coming = faults.filter((f) => f.state === "announced" || (f.state === "planned" && known(f.plan_from_s) && f.plan_from_s <= live.now_s + 1.5));
    if (coming.length) return ["coming", "about to: " + coming.map((f) => WORD[f.kind] || f.kind).join(", "), coming];
    const back = faults.filter((f) => f.state === "healed" && known(f.to_s) && f.fresh < live.planned && live.now_s - f.to_s < (f.limit_s || 30));
    return back.length ? ["coming", "recovering", back] : ["open", "", []];
  };
  const of = (name, live) => live.faults.filter((f) => f.link === name);
  const isDown = (name, live) => live.services.some((s) => s.name === name && s.ended) || of(name, live).some((f) => BROKEN.has(f.state) && STOPS.has(f.kind));
  // Faults in force say what is asked; without one, the probe says what is, and without an answer of late nobody knows.
  const linkState = (link, live) => {
    const found = state(of(link.name, live), live), probe = probed(link);
    if (found[0] === "broken") return found;
    if (probe && probe.broken) return ["broken", probe.seen, found[2]];
    const down = [link.client, link.server].find((name) => isDown(name, live));
    if (down) return ["broken", `${down} is down`, found[2]];
    if (found[0] === "coming") return found;
    return probe && !probe.old ? ["open", "open", []] : ["unknown", "not known", []];
  };
  const serviceState = (service, live) => {
    const found = state(of(service.name, live), live);
    if (found[0] === "broken") return found;
    if (service.ended) return ["broken", service.ended, found[2]];
    if (service.healthy === false && service.health_age_s <= OLD_S) return ["broken", "no good answer", found[2]];
    return found;
  };
  let gone = false;
  const show = (live) => {
    document.getElementById("closed").hidden = !live.closed;
    text(document.getElementById("closed"), live.closed ? "Nothing can be played now: " + live.closed + "." : "");
    if (!live.links.length) { holder.replaceChildren(); drawn = ""; return; }
    build(live);
    for (const link of live.links) {
      const part = parts.links.get(link.name), [kind, word, faults] = gone ? ["unknown", "not known", []] : linkState(link, live);
      const down = isDown(link.client, live) || isDown(link.server, live), here = of(link.name, live);
      part.group.setAttribute("class", "link " + kind);
      part.card.className = "linkcard " + kind;
      if (part.line) part.line.setAttribute("marker-end", `url(#arrow-${kind})`);
      const rate = known(link.rate_per_s) && !down ? `${Tickstorm.show(Math.round(link.rate_per_s), "count")}/s ${link.rate_is}` : null;
      put(part.rate, part.rateAge, link.rate_is ? figure(rate, rate, link.age_s, link.rate_is, here, live, 1) : { text: "rate not measured" });
      put(part.delay, part.delayAge, delayOf(link, here, live));
      text(part.state, word, faults.map((f) => f.name).join(", "));
      part.state.className = kind;
    }
    for (const service of live.services) {
      const part = parts.services.get(service.name), here = of(service.name, live), [kind, word, faults] = gone ? ["unknown", "", []] : serviceState(service, live);
      part.box.className = "box " + kind;
      const use = [known(service.memory_mb) ? Tickstorm.show(service.memory_mb, "mb") : "", known(service.cpu_percent) ? Tickstorm.show(Math.round(service.cpu_percent), "count") + " % CPU" : ""].filter(Boolean).join(", ");
      put(part.use, part.useAge, figure(use || null, use, service.read_age_s, "memory and CPU, last read", here, live));
      const health = service.healthy === null ? null : service.healthy ? `health in ${Tickstorm.show(service.health_ms, "ms")}` : "no good answer";
      put(part.health, part.healthAge, service.name === "toxiproxy" ? { text: "every link passes it" } : health === null ? { text: "" }
        : figure(health, health, service.health_age_s, "its health page, last asked", service.healthy ? here : [], live));
      text(part.state, word, faults.map((f) => f.name).join(", "));
      part.state.className = kind;
    }
    const people = { publisher: `${live.publishing} write`, client: `${live.connected} of ${live.planned}` };
    for (const [name, said] of Object.entries(people)) if (parts.services.has(name)) put(parts.services.get(name).use, parts.services.get(name).useAge, { text: said, age: 0 });
  };

  let latest = null;
  document.addEventListener("tickstorm", (event) => { latest = event.detail; gone = false; show(latest); });
  document.addEventListener("tickstorm-gone", (event) => { gone = event.detail; if (latest) show(latest); });
  narrow.addEventListener("change", () => latest && show(latest));
})();
