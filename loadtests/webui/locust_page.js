// What does Locust's own page show of ours?  The run's state and verdict above it, and the choice of profile in its form.
// React owns the form: we add to it, and set its fields as a hand on the keyboard would.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const SAID_MS = 30000;  // a refusal is of what was asked just now
  const FRAMES = 20;  // React writes its own numbers into a new form, some frames after it stands
  const at = (id) => document.getElementById(id);
  const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };
  const made = (tag, className, words) => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = words || "";
    return element;
  };
  const whole = (n) => Math.round(n).toLocaleString("en-US");
  const ask = window.fetch.bind(window);
  const json = (name) => ask(`./tickstorm/${name}`, { cache: "no-store" }).then((answer) => answer.json());

  // -- the strip

  const seconds = (s) => `${whole(Math.max(0, s))} s`;
  const SAYS = {
    idle: () => "no run yet: choose a profile and press Start",
    preparing: (s) => `${s.profile}: making the target ready`,
    connecting: (s) => `${s.profile}: ${whole(s.connected)} of ${whole(s.planned)} clients connected`,
    running: (s) => `${s.profile}: ${seconds(s.now_s)} of ${seconds(s.plan_s)}`,
    draining: (s) => `${s.profile}: the plan is over, late messages may still come`,
    judging: (s) => `${s.profile}: the history is judged`,
    done: (s) => `${s.profile}: ${s.reasons[0] || "every check passed"}`,
  };
  const show = (state) => {
    const verdict = at("tickstorm-verdict"), done = state.state === "done" && state.verdict;
    verdict.hidden = !done;
    if (done) {
      text(verdict, state.verdict + (state.report ? ": open the report" : ": no report page was written"));
      verdict.className = state.verdict.toLowerCase();
      if (state.report) verdict.href = "." + state.report;  // a proxy may put a path before ours
      else verdict.removeAttribute("href");
    }
    text(at("tickstorm-now"), state.state in SAYS ? SAYS[state.state](state) : "");
    if (state.state === "failed") refuse(`${state.profile} could not begin: ${state.problem}`);
    for (const link of document.querySelectorAll('a[href="./tickstorm/report"]')) {
      text(link, done ? `Open Tickstorm's report (${state.verdict})` : "Open Tickstorm's report (after the verdict)");
    }
  };
  let fades;
  const refuse = (why) => {
    text(at("tickstorm-refusal"), why);
    at("tickstorm-refusal").hidden = !why;
    clearTimeout(fades);
    if (why) fades = setTimeout(() => refuse(""), SAID_MS);
  };
  const look = () => json("state.json").then(show, () => text(at("tickstorm-now"), "Locust does not answer"));

  // -- what Locust's page asks the server: it shows no refusal where its dialog closes at once

  const CHANGES = /\/(swarm|stop|user|stats\/reset)$/;
  window.fetch = async (asked, options) => {
    const answer = await ask(asked, options);
    const method = (asked.method || (options || {}).method || "GET").toUpperCase();
    const [, what] = CHANGES.exec(new URL(asked.url || asked, location.href).pathname) || [];
    if (method === "POST" && what) {
      const said = await answer.clone().json().catch(() => ({}));
      const starts = document.querySelector("select[name=runProfile]");  // such a form shows what it is answered with
      refuse(said.success === false && !(starts && answer.ok) ? said.message : "");
      if (what === "swarm" && said.success && starts && !starts.closest("main")) {
        location.reload();  // behind a dialog the figures of the run before would stand until the next answer
        return new Promise(() => {});
      }
      look();
    }
    return answer;
  };

  // -- the form

  const field = (form, name) => form.querySelector(`input[name=${name}]`);
  const write = (input, value) => {
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, value);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const settle = (input, value) => {  // until a hand changes it
    if (!input) return;
    let frames = FRAMES, touched = false;
    const wanted = String(value);
    input.addEventListener("input", (event) => { touched = touched || event.isTrusted; });
    const keep = () => {
      if (touched || !frames--) return;
      if (input.value !== wanted) write(input, wanted);
      requestAnimationFrame(keep);
    };
    keep();
  };
  const hidden = (name) => Object.assign(made("input", ""), { type: "hidden", name });

  const offer = async (form) => {
    const start = await json("start.json");
    const box = made("div", "tickstorm-choice"), select = document.createElement("select");
    const label = made("label", "", "Profile: what is asked of the target");
    label.htmlFor = select.id = "tickstorm-profile";
    select.name = "runProfile";
    for (const profile of start.profiles) select.add(new Option(profile.label, profile.name));
    const question = made("p", "question"), plan = made("p", ""), problem = made("p", "problem");
    const users = hidden("plannedUsers"), rate = hidden("plannedRate");
    box.append(label, select, question, plan, problem, users, rate);
    const chosen = () => start.profiles.find((profile) => profile.name === select.value);
    const choose = () => {
      const profile = chosen();
      problem.textContent = profile.problem || "";
      problem.hidden = !profile.problem;
      question.textContent = profile.question || "";
      plan.hidden = Boolean(profile.problem);
      if (profile.problem) return;
      const others = profile.planned_users - profile.consumers;
      plan.textContent = `It plans ${whole(profile.planned_users)} users (${whole(profile.consumers)} consumers, ` +
        `${whole(others)} others) for ${seconds(profile.plan_s)}. Another number of users changes the consumers.`;
      users.value = profile.planned_users;
      rate.value = profile.planned_rate;
      settle(field(form, "userCount"), profile.users);
      settle(field(form, "spawnRate"), profile.rate);
      settle(field(form, "host"), profile.host);
    };
    select.value = start.chosen;
    select.addEventListener("change", choose);
    form.prepend(box);
    const locusts = field(form, "profile");  // Locust's own field, a name for test runs: ours is the one choice
    if (locusts) {
      locusts.removeAttribute("name");
      (locusts.closest(".MuiAutocomplete-root") || locusts).style.display = "none";
    }
    const host = field(form, "host");
    if (host) {
      host.readOnly = true;
      host.closest(".MuiFormControl-root").append(made("p", "tickstorm-named", "The profile names the target."));
    }
    choose();
  };
  const edit = async (form) => {
    const box = made("div", "tickstorm-choice"), question = made("p", "question"), whom = made("p", "");
    box.append(question, whom);
    form.prepend(box);
    let state = await json("state.json");
    while (!state.most && form.isConnected) {
      whom.textContent = "The run has not begun yet.";
      await new Promise((soon) => setTimeout(soon, EVERY_MS / 4));
      state = await json("state.json");
    }
    question.textContent = `${state.profile}: ${state.question}`;
    whom.textContent = `From ${whole(state.least)} to ${whole(state.most)} users may take part while it goes on.`;
    settle(field(form, "userCount"), state.users);
    settle(field(form, "spawnRate"), state.rate);
  };
  const known = new WeakSet();
  new MutationObserver(() => {
    for (const form of document.querySelectorAll("form")) {
      if (known.has(form) || !field(form, "userCount")) continue;
      known.add(form);
      (field(form, "host") ? offer : edit)(form);
    }
    if (document.querySelector('a[href="./tickstorm/report"]:not([data-known])')) {
      document.querySelector('a[href="./tickstorm/report"]').dataset.known = "";
      look();
    }
  }).observe(document.body, { childList: true, subtree: true });
  look();
  setInterval(look, EVERY_MS);
})();
