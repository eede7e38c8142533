"use strict";
// What a run that still works has done since the page was made; asked for while the page is seen.

const LIVE_MILLISECONDS = 3000;

const LIVE = {
  run: null,
  timer: 0,

  show(run) {
    if (!$("live")) return;
    const isRunning = RUNS[run].is_running;
    $("live").hidden = !isRunning;
    if (!isRunning) LIVE.stop();
    else if (LIVE.run !== run) {
      LIVE.stop();
      LIVE.run = run;
      LIVE.look();
    }
  },

  stop() {
    clearTimeout(LIVE.timer);
    LIVE.run = null;
  },

  async look() {
    const { run } = LIVE;
    let goesOn = true;
    if (!document.hidden) {
      try {
        const now = await DATA.live(run);
        if (run !== LIVE.run) return;
        LIVE.put(run, now);
        goesOn = now.state === "running";
      } catch {
        // The server may be back at the next look.
        $("live-end").textContent = "restyle view does not answer.";
      }
    }
    if (goesOn && run === LIVE.run) LIVE.timer = setTimeout(LIVE.look, LIVE_MILLISECONDS);
  },

  put(run, now) {
    $("live-bar").max = Math.max(now.inputs, 1);
    $("live-bar").value = now.done;
    const parts = [`${count(now.done)} of ${plural(now.inputs, "input", "inputs")}`];
    if (now.rate) parts.push(`${number(now.rate)} a second`);
    if (now.seconds_left != null) parts.push(`about ${duration(now.seconds_left)} left`);
    parts.push(plural(now.faces, "face", "faces"));
    $("live-progress").textContent = parts.join(", ");
    $("live-reasons").textContent = now.rejected
      ? `${plural(now.rejected, "reject", "rejects")}: ${now.reasons.map((each) =>
        `${count(each.count)} ${each.title}`).join(", ")}` : "No rejects so far.";
    $("live-rejects").replaceChildren(...now.rejects.slice(0, 5).map((each) =>
      make("li", {}, make("bdi", {}, each.source), `: ${each.message}`)));
    LIVE.faces(run, now.newest);
    $("live-reload").hidden = now.new === 0 && now.state === "running";
    $("live-reload").textContent = now.new ? `Show ${plural(now.new, "new face", "new faces")}` : "Show all";
    const ends = { running: "", complete: "This run is complete.", interrupted: "This run was interrupted.",
      failed: "This run failed.", died: "This run died." };
    const end = ends[now.state] ?? "";
    if ($("live-end").textContent !== end) $("live-end").textContent = end;
  },

  // Pictures that are there already stay, so that nothing flickers.
  faces(run, newest) {
    const there = new Map([...$("live-newest").children].map((each) => [each.dataset.key, each]));
    $("live-newest").replaceChildren(...newest.map((face) =>
      there.get(`${run} ${face.key}`) || LIVE.face(run, face)));
  },

  face(run, face) {
    const hasPictures = RUNS[run].kept !== "none";
    return make("li", { "data-key": `${run} ${face.key}` },
      hasPictures ? make("img", { src: DATA.newest(run, face), alt: "", width: 96, height: 96 }) : null,
      make("bdi", { class: "name" }, face.source.split("/").pop()));
  },
};

function duration(seconds) {
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

if ($("live-reload")) $("live-reload").addEventListener("click", () => location.reload());
