"use strict";
// All faces, a page at a time, with name, limits and order; and the rejects.

const GALLERY = {
  asked: 0,

  setUp() {
    const change = () => GALLERY.apply();
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("name").addEventListener("input", later(200, change));
    $("sort").addEventListener("change", change);
    $("falling").addEventListener("change", change);
    $("range-fields").addEventListener("input", later(300, change));
    $("clear").addEventListener("click", () => {
      const { query } = STATE.read();
      STATE.go("faces", { run: query.run, with: query.with });
    });
    $("previous").addEventListener("click", () => GALLERY.turn(-1));
    $("next").addEventListener("click", () => GALLERY.turn(1));
    $("page").addEventListener("change", () => GALLERY.toPage(Number($("page").value) - 1));
  },

  toPage(page) {
    const { query } = STATE.read();
    const most = Number($("pages").textContent.replaceAll(",", "")) - 1;
    STATE.go("faces", { ...query, page: Math.min(Math.max(page || 0, 0), most) || "" });
    $("cards").scrollIntoView({ block: "nearest" });
  },

  turn(by) { GALLERY.toPage((Number(STATE.read().query.page) || 0) + by); },

  // The controls, as the address has them.
  show(query) {
    const run = RUNS[query.run];
    const options = [["", "order of the input"], ["source", "name"]];
    for (const metric of run.metrics) options.push([metric.name, metric.title]);
    if (query.with) {
      for (const metric of run.metrics) {
        if (metricOf(query.with, metric.name)) {
          options.push([DIFFERENCE + metric.name, `difference in ${metric.title}`]);
        }
      }
    }
    $("sort").replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
    $("sort").value = options.some(([value]) => value === query.sort) ? query.sort : "";
    $("falling").checked = query.falling === "1";
    if (document.activeElement !== $("name")) $("name").value = query.name || "";
    const fields = $("range-fields");
    if (!fields.contains(document.activeElement)) {
      fields.replaceChildren(...run.metrics.map((metric) => GALLERY.limits(metric, query)));
    }
    const limited = run.metrics.filter(
      (metric) => query[`${metric.name}.low`] || query[`${metric.name}.high`]).length;
    $("range-count").textContent = limited || "";
    $("ranges").hidden = !run.metrics.length;
  },

  limits(metric, query) {
    const field = (side, hint) => make("input", {
      type: "number", step: "any", name: `${metric.name}.${side}`,
      value: query[`${metric.name}.${side}`], placeholder: number(hint),
      "aria-label": `${metric.title}, ${side === "low" ? "at least" : "at most"}`,
    });
    return make("div", {}, make("span", {}, metric.title), field("low", metric.low),
      make("span", {}, "to"), field("high", metric.high));
  },

  apply() {
    const { query } = STATE.read();
    const next = { run: query.run, with: query.with, name: $("name").value, sort: $("sort").value,
      falling: $("falling").checked ? "1" : "" };
    for (const field of $("range-fields").querySelectorAll("input")) {
      if (field.value !== "" && field.validity.valid) next[field.name] = field.value;
    }
    STATE.go("faces", next, { replace: true });
  },

  async load(query) {
    GALLERY.show(query);
    const asked = ++GALLERY.asked;
    $("cards").setAttribute("aria-busy", "true");
    const answer = await DATA.faces(query);
    if (asked !== GALLERY.asked) return;
    $("cards").removeAttribute("aria-busy");
    const run = RUNS[query.run];
    $("cards").classList.toggle("beside", Boolean(query.with));
    $("cards").replaceChildren(...answer.rows.map((face) => GALLERY.card(face, query)));
    const isAll = answer.total === run.faces;
    $("total").textContent = answer.total
      ? `${plural(answer.total, "face", "faces")}${isAll ? "" : " found"}` : "";
    $("no-faces").hidden = answer.total > 0;
    $("no-faces").textContent = run.faces
      ? "No face is like that. Widen the limits, or clear them."
      : run.rejects ? "No face has been inverted: every input so far was rejected."
        : "No face has been inverted yet.";
    $("pager").hidden = answer.pages < 2;
    $("pages").textContent = count(answer.pages);
    $("page").value = answer.page + 1;
    $("page").max = answer.pages;
    $("previous").disabled = answer.page === 0;
    $("next").disabled = answer.page + 1 >= answer.pages;
  },

  card(face, query) {
    const run = RUNS[query.run];
    const address = STATE.address("face", { ...query, face: face.number });
    const pictures = make("span", { class: "pair" });
    if (run.kept !== "none") {
      pictures.append(GALLERY.image(query.run, face, 0, "input"),
        GALLERY.image(query.run, face, -1, "reconstruction"));
    } else {
      pictures.append(make("span", { class: "no-picture" }, "no pictures kept"));
    }
    if (query.with) pictures.append(GALLERY.otherImage(face, query.with));
    return make("li", {}, make("a", { class: "card", href: address, "data-number": face.number },
      pictures, make("span", { class: "name", title: face.source }, ...nameOf(face, query.run)),
      GALLERY.numbers(face, query)));
  },

  image(run, face, step, alt) {
    return make("img", { src: DATA.picture(run, face, step), alt, loading: "lazy",
      decoding: "async", width: 128, height: 128 });
  },

  otherImage(face, run) {
    if (!face.other) return make("span", { class: "no-picture" }, "not in that run");
    if (RUNS[run].kept === "none") return make("span", { class: "no-picture" }, "no pictures kept");
    return GALLERY.image(run, face.other, -1, "reconstruction of the other run");
  },

  numbers(face, query) {
    const list = make("span", { class: "numbers" });
    const sorted = (query.sort || "").replace(DIFFERENCE, "");
    for (const metric of RUNS[query.run].metrics) {
      const value = face.metrics[metric.name];
      const there = face.other ? face.other.metrics[metric.name] : undefined;
      const text = there === undefined ? number(value) : `${number(value)} → ${number(there)}`;
      list.append(make("span", { class: metric.name === sorted ? "sorted" : "" },
        make("span", { class: "muted" }, `${metric.title} `), text), " ");
    }
    return list;
  },
};

const REJECTS = {
  asked: 0,

  setUp() {
    const change = () => {
      const { query } = STATE.read();
      STATE.go("rejects", { run: query.run, name: $("reject-name").value, reason: $("reason").value },
        { replace: true });
    };
    $("reject-controls").addEventListener("submit", (event) => event.preventDefault());
    $("reject-name").addEventListener("input", later(200, change));
    $("reason").addEventListener("change", change);
    const turn = (by) => {
      const { query } = STATE.read();
      STATE.go("rejects", { ...query, page: (Number(query.page) || 0) + by || "" });
    };
    $("reject-previous").addEventListener("click", () => turn(-1));
    $("reject-next").addEventListener("click", () => turn(1));
  },

  async load(query) {
    const run = RUNS[query.run];
    const asked = ++REJECTS.asked;
    $("reason").replaceChildren(make("option", { value: "" }, "any"),
      ...run.reasons.map((each) =>
        make("option", { value: each.name }, `${each.title} (${count(each.count)})`)));
    $("reason").value = query.reason || "";
    if (document.activeElement !== $("reject-name")) $("reject-name").value = query.name || "";
    const answer = await DATA.rejects(query);
    if (asked !== REJECTS.asked) return;
    $("reject-controls").hidden = !run.rejects;
    $("reject-box").hidden = !answer.total;
    $("no-rejects").hidden = answer.total > 0;
    $("no-rejects").classList.toggle("good", !run.rejects);
    $("no-rejects").textContent = run.rejects ? "No reject is like that."
      : run.faces ? "None: every input gave a latent." : "None yet: no input has been looked at.";
    $("reject-total").textContent = answer.total ? plural(answer.total, "reject", "rejects") : "";
    $("reject-rows").replaceChildren(...answer.rows.map((row) => make("tr", {},
      make("td", { class: "name", title: row.source }, ...nameOf(row, query.run)),
      make("td", { class: "reason" }, row.title), make("td", {}, row.stage),
      make("td", { class: "message" }, row.message))));
    $("reject-pager").hidden = answer.pages < 2;
    $("reject-page").textContent = `${count(answer.page + 1)} of ${count(answer.pages)}`;
    $("reject-previous").disabled = answer.page === 0;
    $("reject-next").disabled = answer.page + 1 >= answer.pages;
  },
};
