"use strict";
// What is shown for an address, and the keys.

function showRun(query) {
  const run = RUNS[query.run];
  $("run-name").textContent = run.name;
  const facts = [run.uri, run.model, plural(run.steps, "step", "steps")];
  $("run-facts").replaceChildren(...facts.map((fact) => make("span", {}, fact)));
  if ($("run")) {
    $("run").value = query.run;
    $("with").value = query.with || "";
    for (const option of $("with").options) option.disabled = option.value === query.run;
  }
  $("run-state").hidden = !run.state;
  $("run-state").textContent = run.state;
  LIVE.show(query.run);
  const plain = { run: query.run, with: query.with };
  if ($("tab-upload")) $("tab-upload").href = STATE.address("upload", { run: query.run });
  $("tab-faces").href = STATE.address("faces", plain);
  $("tab-rejects").href = STATE.address("rejects", plain);
  $("tab-faces").querySelector(".count").textContent = count(run.faces);
  $("tab-rejects").querySelector(".count").textContent = run.rejects ? count(run.rejects) : "";
  document.title = `${run.name}, ReStyle inversion`;
}

// How far each address was scrolled when another view was opened, for the way back.
const SCROLLED = {};
const LAST = { view: "", address: "", face: "", asked: 0 };

async function show() {
  const address = location.hash || "#";
  const { view, query } = STATE.read();
  const before = { ...LAST };
  if (before.view && before.view !== view) SCROLLED[before.address] = window.scrollY;
  const asked = before.asked + 1;
  Object.assign(LAST, { view, address, face: view === "face" ? query.face : "", asked });
  showRun(query);
  $("run-head").hidden = false;
  $("missing").hidden = true;
  for (const each of VIEWS) $(`${each}-view`).hidden = each !== view;
  $("edits").hidden = true;
  for (const each of ["faces", "rejects", "upload"]) {
    const isCurrent = each === (view === "face" ? "faces" : view);
    if ($(`tab-${each}`)) $(`tab-${each}`).setAttribute("aria-current", isCurrent ? "page" : "false");
  }
  showError(null);
  try {
    await { faces: GALLERY, face: FACE, rejects: REJECTS, upload: UPLOAD }[view].load(query);
    if (before.view && before.view !== view && asked === LAST.asked) {
      window.scrollTo(0, SCROLLED[address] || 0);
      focusIn(view, before.face);
    }
  } catch (error) {
    if (asked === LAST.asked) showError(error);
  }
  // What was left meanwhile is not what is shown.
  if (asked === LAST.asked) document.body.dataset.shown = location.hash || "#";
}

// What had the focus is hidden: what took its place gets it.
function focusIn(view, face) {
  if (view === "face") $("face-name").focus({ preventScroll: true });
  const left = view === "faces" && face && $("cards").querySelector(`a[data-key="${CSS.escape(face)}"]`);
  if (left) left.focus();
}

function moveAmongCards(key) {
  const cards = [...$("cards").querySelectorAll("a.card")];
  const at = cards.indexOf(document.activeElement);
  if (!cards.length) return;
  const top = cards[0].getBoundingClientRect().top;
  const wide = cards.filter((card) => card.getBoundingClientRect().top === top).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[key];
  const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), cards.length - 1);
  cards[next].focus();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const isTyping = event.target.matches("input:not([type=range]):not([type=checkbox]), select");
  const { view, query } = STATE.read();
  if (event.key === "Escape" && view === "face") {
    STATE.go("faces", STATE.ofGallery(query));
  } else if (isTyping) {
    return;
  } else if (event.key === "?") {
    $("help").showModal();
  } else if (event.key === "/" && (view === "faces" || view === "rejects")) {
    $(view === "faces" ? "name" : "reject-name").focus();
  } else if (view === "face" && (event.key === "p" || event.key === "n")) {
    FACE.toNeighbour(event.key === "n" ? 1 : -1);
  } else if (view === "faces" && (event.key === "[" || event.key === "]") && !$("pager").hidden) {
    GALLERY.turn(event.key === "]" ? 1 : -1);
  } else if (event.key.startsWith("Arrow") && !event.target.matches("input")) {
    if (view === "faces") moveAmongCards(event.key);
    else if (view === "face" && FACE.shown && /Left|Right/.test(event.key)) {
      FACE.toStep((FACE.shown.at ?? 0) + (event.key === "ArrowRight" ? 1 : -1));
    } else return;
  } else {
    return;
  }
  event.preventDefault();
}

GALLERY.setUp();
REJECTS.setUp();
FACE.setUp();
EDITS.setUp();
UPLOAD.setUp();
for (const id of ["run", "with"]) {
  if (!$(id)) continue;
  $(id).addEventListener("change", () => {
    const { view } = STATE.read();
    const [run, other] = [$("run").value, $("with").value];
    STATE.go(view === "rejects" ? "rejects" : "faces", { run, with: other === run ? "" : other });
  });
}
$("help-button").addEventListener("click", () => $("help").showModal());
document.addEventListener("keydown", pressed);
window.addEventListener("hashchange", show);
show();
