"use strict";
// A photograph of one's own: dropped on the page or chosen, inverted step by step, then edited.

const UPLOAD = {
  asked: 0,

  setUp() {
    if (!$("upload-view")) return;
    $("upload-file").addEventListener("change", () => UPLOAD.send($("upload-file").files[0]));
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      window.addEventListener(kind, (event) => UPLOAD.dragged(event));
    }
  },

  dragged(event) {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    const isOver = event.type === "dragenter" || event.type === "dragover";
    document.body.classList.toggle("dropping", isOver);
    if (event.type !== "drop") return;
    const file = event.dataTransfer.files[0];
    const { view, query } = STATE.read();
    if (view !== "upload") STATE.go("upload", { run: query.run });
    UPLOAD.send(file);
  },

  async load(query) {
    const { upload_reason: reason, name } = RUNS[query.run];
    $("upload-box").hidden = Boolean(reason);
    $("upload-reason").hidden = !reason;
    $("upload-reason").textContent = reason;
    $("upload-run").textContent = name;
    if (EDITS.target && !EDITS.target.face && EDITS.target.run === query.run) EDITS.show(EDITS.target);
    else $("edits").hidden = true;
  },

  async send(file) {
    if (!file) return;
    const asked = ++UPLOAD.asked;
    const { run } = STATE.read().query;
    showError(null);
    $("edits").hidden = true;
    $("upload-steps").replaceChildren();
    $("upload-state").textContent = "looking for a face …";
    try {
      const { id, steps } = await DATA.upload(run, file);
      const base = `uploaded/${run}/${id}`;
      for (let step = 0; step <= steps; step += 1) {
        $("upload-state").textContent = step ? `step ${step} of ${steps}` : "cut out";
        const image = await DATA.image(`${base}/step/${step}`);
        if (asked !== UPLOAD.asked) return;
        UPLOAD.draw(image, step, steps);
      }
      $("upload-state").textContent = `inverted in ${plural(steps, "step", "steps")}`;
      EDITS.show({ run, base: `${base}/edit`, photo: `${base}/photo`, face: null });
    } catch (error) {
      if (asked !== UPLOAD.asked) return;
      $("upload-state").textContent = "";
      showError(error);
    } finally {
      $("upload-file").value = "";
    }
  },

  draw(image, step, steps) {
    const address = URL.createObjectURL(image);
    const picture = make("img", { src: address, width: 256, height: 256,
      alt: step ? `reconstruction after step ${step}` : "the face, cut out" });
    picture.addEventListener("load", () => URL.revokeObjectURL(address));
    const caption = !step ? "input" : step === steps ? `result, step ${step}` : `step ${step}`;
    $("upload-steps").append(make("figure", { class: step ? "step" : "input" }, picture,
      make("figcaption", {}, caption)));
  },
};
