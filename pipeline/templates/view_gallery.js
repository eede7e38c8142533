"use strict";
// All faces, a page at a time, with name, limits and order.

const GALLERY = {
  asked: 0,

  setUp() {
    const change = () => GALLERY.apply();
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    $("name").addEventListener("input", later(200, change));
    $("sort").addEventListener("change", () => {
      $("order").value = "";
      change();
    });
    $("order").addEventListener("change", change);
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
    const orders = GALLERY.orders(query);
    $("order").replaceChildren(...orders.map(([value, text]) => make("option", { value }, text)));
    $("order").value = orders.some(([value]) => value === query.order) ? query.order : "";
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

  orders(query) {
    const sort = query.sort || "";
    if (sort === "source") return [["", "A to Z"], ["last", "Z to A"]];
    if (!metricOf(query.run, sort.replace(DIFFERENCE, ""))) {
      return [["", "first to last"], ["last", "last to first"]];
    }
    return sort.startsWith(DIFFERENCE)
      ? [["", "what became worse first"], ["best", "what became better first"]]
      : [["", "worst first"], ["best", "best first"]];
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
      order: $("order").value };
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
    disable($("previous"), answer.page === 0, $("next"));
    disable($("next"), answer.page + 1 >= answer.pages, $("previous"));
  },

  card(face, query) {
    const run = RUNS[query.run];
    const address = STATE.address("face", { ...query, face: face.key });
    const pictures = make("span", { class: "pair" });
    if (run.kept !== "none") {
      const result = query.with ? run.name : "result";
      pictures.append(GALLERY.picture(query.run, face, 0, "input"),
        GALLERY.picture(query.run, face, -1, result));
    } else {
      pictures.append(make("span", { class: "no-picture" }, "no pictures kept"));
    }
    if (query.with) pictures.append(GALLERY.otherPicture(face, query.with));
    return make("li", {}, make("a", { class: "card", href: address, "data-key": face.key },
      pictures, make("span", { class: "name", title: face.source }, ...nameOf(face, query.run)),
      GALLERY.numbers(face, query)));
  },

  picture(run, face, step, caption) {
    const image = make("img", { src: DATA.picture(run, face, step), alt: "", loading: "lazy",
      decoding: "async", width: 128, height: 128 });
    return make("span", { class: "captioned" }, image, make("span", { class: "caption" }, caption));
  },

  otherPicture(face, run) {
    if (!face.other) return make("span", { class: "no-picture" }, "not in that run");
    if (RUNS[run].kept === "none") return make("span", { class: "no-picture" }, "no pictures kept");
    return GALLERY.picture(run, face.other, -1, RUNS[run].name);
  },

  numbers(face, query) {
    const list = make("span", { class: "numbers" });
    const sorted = (query.sort || "").replace(DIFFERENCE, "");
    for (const metric of RUNS[query.run].metrics) {
      const value = face.metrics[metric.name];
      const there = face.other ? face.other.metrics[metric.name] : undefined;
      const shown = there === undefined ? [number(value)]
        : [`${number(value)} → `, marked(metric, value, there)];
      list.append(make("span", { class: metric.name === sorted ? "sorted" : "" },
        make("span", { class: "muted" }, `${metric.title} `), ...shown), " ");
    }
    return list;
  },
};
