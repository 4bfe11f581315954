// Pointer, buttons and keys of the player, and its start. Goes on from player_screen.js.

// ---- pointer

function place(event) {
    const box = screen.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
}

let dragging = null; // "wipe" or "lens" while a pointer is down

function moveLens(event) {
    if (!state.lens) return;
    state.touch = event.pointerType === "touch";
    state.at = place(event);
    drawLens();
}

screen.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary || event.target.closest("button")) return;
    if (root.dataset.state === "empty") return;
    const onHandle = handle.contains(event.target);
    // A finger can't hover: with the lens on it moves the lens, and the wipe only by its handle.
    dragging = state.lens && event.pointerType === "touch" && !onHandle ? "lens" : "wipe";
    screen.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true, focusVisible: false });
    if (dragging === "wipe" && !onHandle) setWipe(place(event)[0]);
    moveLens(event);
    event.preventDefault();
});
screen.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || (!dragging && event.target.closest("button"))) return;
    if (dragging === "wipe") setWipe(place(event)[0]);
    if (dragging !== "wipe" || event.pointerType !== "touch") moveLens(event);
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    screen.addEventListener(name, () => { dragging = null; });
}

// ---- buttons

part("play").addEventListener("click", () => (state.playing ? pause() : play()));
part("back").addEventListener("click", () => step(-1));
part("forward").addEventListener("click", () => step(1));
part("loop").addEventListener("click", () => {
    state.loop = !state.loop;
    part("loop").setAttribute("aria-pressed", state.loop);
});
part("lens").addEventListener("click", () => setLens(!state.lens));
part("zoom").addEventListener("click", nextZoom);
part("full").addEventListener("click", fullScreen);
part("retry").addEventListener("click", retry);
time.addEventListener("input", () => {
    const wanted = Number(time.value);
    if (state.playing) pause();
    show(wanted);
});
const group = `sides-${Math.random().toString(36).slice(2)}`;
for (const name of ["left", "base"]) {
    part(`choose-${name}`).name = group;
    part(`choose-${name}`).addEventListener("change", () => {
        state.chosen = name;
        join();
    });
}

function fullScreen() {
    if (!root.requestFullscreen) setFull(!root.classList.contains("full"), true); // iPhones: fill the window
    else if (document.fullscreenElement === root) document.exitFullscreen();
    else root.requestFullscreen().catch(() => setFull(true, true));
}

function setFull(on, filled) {
    root.classList.toggle("full", on);
    root.classList.toggle("filled", on && filled);
    part("full").setAttribute("aria-pressed", on);
}

root.addEventListener("fullscreenchange", () => setFull(document.fullscreenElement === root, false));
new ResizeObserver(() => {
    paintWipe();
    drawLens();
}).observe(screen);

// ---- keys, while the focus is anywhere inside

root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || root.dataset.state === "empty") return;
    const own = event.target;
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key], upward = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (own.matches("button") && (event.key === " " || event.key === "Enter")) return; // pressing it is meant
    if (own.matches("input") && (sideways || upward) && !event.shiftKey) return; // its own keys
    const action = {
        " ": () => (state.playing ? pause() : play()),
        ",": () => step(-1),
        ".": () => step(1),
        "l": () => setLens(!state.lens),
        "z": nextZoom,
        "f": fullScreen,
        "Home": () => step(-state.frames),
        "End": () => step(state.frames),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) action();
    else if (sideways && event.shiftKey) step(sideways);
    else if (sideways && root.dataset.state === "pair") {
        setWipe(Math.round(100 * state.wipe + 2 * sideways) / 100);
        state.touch = false;
        state.at[0] = state.wipe;
        drawLens();
    } else if (upward && state.lens) {
        state.touch = false;
        state.at[1] = clamp(state.at[1] + 0.03 * upward, 0, 1);
        drawLens();
    } else if (event.key === "Escape" && root.classList.contains("filled")) setFull(false, false);
    else return;
    event.preventDefault();
});

for (const [name, video] of Object.entries(videos)) {
    video.muted = true; // the attribute alone is not obeyed when it comes through innerHTML
    watchFrames(name, video);
}
watch(["value", "label", "placeholder"], take);
take();
