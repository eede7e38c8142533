"use strict";
// One face: its steps with a slider, maps of differences and changes, metrics.

const FACE = {
  asked: 0,
  shown: null,
  order: "",
  neighbours: [],

  setUp() {
    $("step").addEventListener("input", () => FACE.toStep(Number($("step").value)));
    $("face-previous").addEventListener("click", () => FACE.toNeighbour(-1));
    $("face-next").addEventListener("click", () => FACE.toNeighbour(1));
  },

  async load(query) {
    const asked = ++FACE.asked;
    FACE.standAt(query);
    $("back").href = STATE.address("faces", STATE.ofGallery(query));
    FACE.alone(false);
    let face;
    try {
      face = await DATA.face(query);
    } catch (error) {
      if (asked === FACE.asked) FACE.alone(true);
      throw error;
    }
    if (asked !== FACE.asked) return;
    if (query.face !== face.key) {
      query.face = face.key;
      STATE.rename("face", query);
    }
    FACE.standAt(query);
    const sides = [{ run: query.run, face }];
    if (query.with) sides.push({ run: query.with, face: face.other });
    FACE.shown = { query, sides, steps: FACE.stepsOf(sides) };
    $("face-name").replaceChildren(...nameOf(face, query.run));
    $("face-name").title = face.source;
    const scale = Math.max(...sides.map((side) => (side.face ? side.face.scale : 0)));
    FACE.shown.scale = scale;
    $("scale").textContent = String(Number(scale.toPrecision(3)));
    $("legend").hidden = !scale;
    $("columns").classList.toggle("beside-two", sides.length > 1);
    $("columns").replaceChildren(...sides.map((side) => FACE.column(side)));
    const { steps } = FACE.shown;
    $("stepper").hidden = !steps.length;
    $("step").max = Math.max(steps.length - 1, 0);
    FACE.toStep(steps.length - 1);
    FACE.table(sides);
    EDITS.show(EDITS.ofFace(query, face));
    await FACE.findNeighbours(query, asked);
  },

  // A face that is not there leaves nothing on the page but that.
  alone(isMissing) {
    $("missing").hidden = !isMissing;
    $("face-body").hidden = isMissing;
    $("run-head").hidden = isMissing;
    for (const button of [$("face-previous"), $("face-next")]) button.hidden = isMissing;
  },

  named(run, step) {
    const name = RUNS[run].names[step];
    return name ? `, ${name}` : "";
  },

  stepsOf(sides) {
    const all = sides.flatMap((side) => (side.face ? side.face.pictures : []));
    return [...new Set(all)].sort((a, b) => a - b);
  },

  column(side) {
    const title = make("h3", {}, RUNS[side.run].name);
    const isBeside = FACE.shown.sides.length > 1;
    if (!side.face) {
      return make("div", { class: "column" }, title,
        make("p", { class: "empty" }, "This face is not in that run."));
    }
    if (!side.face.pictures.length) {
      return make("div", { class: "column" }, isBeside ? title : null, make("p", { class: "empty" },
        "No pictures were kept. Run with --reconstructions last or all to see them here."));
    }
    const figure = (kind, caption) => make("figure", { class: kind },
      make("img", { width: 256, height: 256, alt: "" }), make("figcaption", {}, caption));
    const input = side.face.pictures[0] === 0 ? figure("input", "input") : null;
    if (input) {
      input.firstChild.src = DATA.picture(side.run, side.face, 0);
      input.firstChild.alt = "aligned input";
    }
    side.step = figure("step", "");
    side.difference = figure("difference", "");
    side.change = figure("change", "");
    return make("div", { class: "column" }, isBeside ? title : null,
      make("div", { class: "frames" }, input, side.step, side.difference, side.change));
  },

  toStep(at) {
    const { sides, steps, scale } = FACE.shown;
    const index = Math.min(Math.max(at, 0), steps.length - 1);
    if (!steps.length) return;
    const step = steps[index];
    $("step").value = index;
    const name = step === 0 ? "0, the input" : `${step} of ${RUNS[sides[0].run].steps}${FACE.named(sides[0].run, step)}`;
    $("step-name").textContent = name;
    $("step").setAttribute("aria-valuetext", name);
    FACE.shown.at = index;
    for (const side of sides) {
      if (!side.step) continue;
      FACE.drawStep(side, step);
      FACE.drawDifference(side, step, scale);
      FACE.drawChange(side, step, scale);
    }
    for (const row of $("step-table").querySelectorAll("tr[data-step]")) {
      row.classList.toggle("current", Number(row.dataset.step) === step);
    }
  },

  drawStep(side, step) {
    const [image, caption] = side.step.children;
    const last = Math.max(...side.face.pictures);
    // A run with fewer steps beside one with more stays at its last.
    const shown = step > last && last > 0 ? last : step;
    const isThere = side.face.pictures.includes(shown);
    image.hidden = !isThere;
    if (isThere) image.src = DATA.picture(side.run, side.face, shown);
    const named = FACE.named(side.run, shown);
    image.alt = shown === 0 ? "aligned input" : `reconstruction after step ${shown}${named}`;
    caption.textContent = !isThere ? `step ${shown} was not kept`
      : shown === 0 ? "input" : shown < step ? `step ${shown}, the last one` : `step ${shown}${named}`;
  },

  drawDifference(side, step, scale) {
    const [image, caption] = side.difference.children;
    const last = Math.max(...side.face.pictures);
    const shown = step > last && last > 0 ? last : step;
    const isThere = side.face.differences.includes(shown);
    side.difference.hidden = !side.face.differences.length;
    image.hidden = !isThere;
    if (isThere) image.src = DATA.map("difference", side.run, side.face, shown, scale);
    image.alt = `where step ${shown} differs from the input`;
    caption.textContent = isThere ? "difference from the input" : "";
  },

  drawChange(side, step, scale) {
    const [image, caption] = side.change.children;
    const isThere = side.face.changes.includes(step);
    image.hidden = !isThere;
    if (isThere) image.src = DATA.map("change", side.run, side.face, step, scale);
    image.alt = `what step ${step} changed`;
    caption.textContent = isThere ? `changed by step ${step}`
      : step === 0 || step > Math.max(...side.face.pictures) ? ""
        : side.face.changes.length ? "no step before to compare with"
          : "no pictures of two steps in a row";
  },

  table(sides) {
    const there = sides.filter((side) => side.face && side.face.steps.length);
    $("numbers").hidden = !there.length;
    if (!there.length) return;
    const names = Object.keys(there[0].face.steps[0])
      .filter((name) => there.some((side) => side.face.steps.some((row) => row[name] != null)));
    const metrics = names.map((name) => metricOf(there[0].run, name));
    const titles = names.map((name, at) =>
      metrics[at] ? metrics[at].title : name === "delta" ? "change" : name);
    // The runs' columns of a metric stand beside each other.
    const head = make("tr", {}, make("th", { scope: "col" }, "step"));
    for (const title of titles) {
      for (const side of there) {
        const run = there.length > 1 ? make("span", { class: "run" }, RUNS[side.run].name) : null;
        head.append(make("th", { scope: "col", class: "value" }, title, run && " ", run));
      }
    }
    const most = Math.max(...there.map((side) => side.face.steps.length));
    const valueOf = (side, index, name) => (side.face.steps[index] || {})[name];
    const cells = (index) => names.flatMap((name, at) => there.map((side, place) => {
      const value = valueOf(side, index, name);
      if (!place) return make("td", { class: "value first" }, number(value));
      return make("td", { class: "value" }, marked(metrics[at], valueOf(there[0], index, name), value));
    }));
    const rows = Array.from({ length: most }, (_, index) => make("tr", { "data-step": index + 1 },
      make("th", { scope: "row" }, String(index + 1)), ...cells(index)));
    $("step-table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
    FACE.toStep(FACE.shown.at ?? 0);
  },

  // Neighbours in the order of the gallery that the face was opened from.
  async findNeighbours(query, asked) {
    const page = Number(query.page) || 0;
    const around = [];
    for (const at of [page - 1, page, page + 1]) {
      if (at < 0) continue;
      const answer = await DATA.faces({ ...STATE.ofGallery(query), page: at });
      if (answer.page === at) around.push(...answer.rows.map((row) => [row.key, at]));
    }
    if (asked !== FACE.asked) return;
    FACE.neighbours = around;
    FACE.standAt(query);
  },

  // Among the neighbours that are known, which hold until others are: keys may be faster than those.
  standAt(query) {
    const order = JSON.stringify({ ...STATE.ofGallery(query), page: "" });
    if (order !== FACE.order) FACE.neighbours = [];
    FACE.order = order;
    const at = FACE.neighbours.findIndex(([each]) => each === query.face);
    FACE.place = at;
    disable($("face-previous"), at <= 0, $("face-next"));
    disable($("face-next"), at < 0 || at + 1 >= FACE.neighbours.length, $("face-previous"));
  },

  toNeighbour(by) {
    const next = FACE.place >= 0 ? FACE.neighbours[FACE.place + by] : undefined;
    if (!next) return;
    const [face, page] = next;
    STATE.go("face", { ...STATE.read().query, face, page: page || "" }, { replace: true });
  },
};
