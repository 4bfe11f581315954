// The body of a function that gradio calls once per component with (element, trigger, props, server, upload, watch).
// Everything it keeps lives in this call, and every listener sits on the component's own elements and goes with them.

const root = element.querySelector(".compare");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const videos = { left: part("left"), right: part("right"), base: part("base") };
const screen = part("screen"), handle = part("handle"), loupe = part("loupe"), time = part("time");
const ZOOMS = [1, 2, 4];
const FAR = 0.5; // seconds of drift that are too much to be waited for

const state = {
    urls: {}, shown: {}, failed: {}, fps: 16, labels: {}, frame: 0, frames: 0, wipe: 0.5, playing: false, loop: true,
    chosen: null, // "left" or "base", once a person has chosen
    lens: false, zoom: 0, at: [0.5, 0.5], touch: false,
    isNew: true, // nothing of this value has been shown yet
};
let seeking = null, target = 0;

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
// Once a video could be shown it stays: its readyState falls for a moment at every seek, the loop's included.
const there = (name) => Boolean(state.urls[name]) && (state.shown[name] ||= videos[name].readyState >= 2);

// ---- which videos are on the screen

function leftName() {
    const preferred = state.chosen && there(state.chosen) ? state.chosen : "left";
    return [preferred, "left", "base"].find(there) || null;
}

function cast() {
    const left = leftName();
    if (there("right")) return { leader: "right", follower: left };
    return { leader: left, follower: null };
}

function onScreen() {
    const { leader, follower } = cast();
    return [leader, follower].filter(Boolean).map((name) => videos[name]);
}

function arrange() {
    const { leader, follower } = cast();
    root.dataset.state = follower ? "pair" : leader ? "single" : "empty";
    for (const [name, video] of Object.entries(videos)) {
        video.classList.toggle("shown", name === leader || name === follower);
        video.classList.toggle("wiped", name === follower);
        if (name !== leader && name !== follower && !video.paused) video.pause();
    }
    const lead = leader && videos[leader];
    if (lead) {
        root.style.setProperty("--ratio", lead.videoWidth / lead.videoHeight);
        state.frames = Math.max(1, Math.round(Math.min(...onScreen().map((video) => video.duration)) * state.fps));
    } else {
        state.frames = 0;
    }
    const leftShown = follower || (leader === "right" ? null : leader);
    part("left-tag").textContent = leftShown ? state.labels[leftShown] : "";
    part("right-tag").textContent = leader === "right" ? state.labels.right : "";
    for (const name of ["left", "base"]) {
        const radio = part(`choose-${name}`);
        radio.checked = (follower || "left") === name;
        radio.disabled = !(there("right") && there("left") && there("base"));
        if (state.labels[name]) radio.nextElementSibling.textContent = state.labels[name];
    }
    // The switch has its place from the start, and is gone only where there is nothing to switch to.
    part("sides").classList.toggle("waiting", part("choose-base").disabled);
    part("sides").classList.toggle("none", there("right") && there("left") && !state.urls.base);
    for (const name of ["play", "back", "forward", "time", "lens", "full"]) part(name).disabled = !leader;
    if (!leader) setLens(false);
    time.max = Math.max(0, state.frames - 1);
    paintTime();
    paintWipe();
    drawLens();
}

// ---- a new value

function load(name, file) {
    const url = (file && file.url) || null;
    if (state.urls[name] === url || (!state.urls[name] && !url)) return false;
    state.urls[name] = url;
    state.shown[name] = false;
    delete state.failed[name];
    if (url) {
        videos[name].src = url;
    } else {
        videos[name].removeAttribute("src");
        videos[name].load();
    }
    return true;
}

// Takes up props.value. Each video joins the others when it has loaded; those on the screen go on meanwhile.
function take() {
    const value = props.value || {};
    state.fps = value.fps || 16;
    state.labels = { left: value.left_label || "", right: value.right_label || "", base: value.base_label || "" };
    root.setAttribute("aria-label", props.label || "Comparison");
    part("empty").querySelector("p").textContent = props.placeholder || "";
    if (value.width && value.height) root.style.setProperty("--ratio", value.width / value.height);
    const before = cast().leader;
    const changed = Object.keys(videos).filter((name) => load(name, value[name]));
    if (!value.left && !value.right && !value.base) state.chosen = null;
    if (!before || changed.includes(before)) {
        state.isNew = true;
        state.playing = false;
        state.frame = 0;
        halt();
    }
    arrange();
    paintPlaying();
    paintTrouble();
}

let joining = Promise.resolve();

// The cast has changed: brings all that are on the screen to one frame, and lets them play on or begin.
function join() {
    joining = joining.then(async () => {
        halt();
        arrange();
        if (root.dataset.state === "empty") return;
        state.playing ||= state.isNew && !calm();
        state.isNew = false;
        paintPlaying();
        await show(state.frame);
        if (state.playing) await play(); // unless it was paused meanwhile
    });
    return joining;
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// ---- a video that can't be had

// By the number of the browser's own MediaError; 4 stands for "not found" as well as for "no such format".
const REASONS = { 2: "the connection broke", 3: "it is damaged", 4: "it is no longer on the server, or can't be played here" };

function fail(name) {
    const error = videos[name].error;
    if (!state.urls[name] || !error || error.code === 1) return; // taken away, or left by the visitor
    state.failed[name] = REASONS[error.code] || "for an unknown reason";
    if (videos[name].readyState < 2) state.shown[name] = false; // else what is there stays on the screen
    arrange();
    paintTrouble();
}

function paintTrouble() {
    const failed = Object.keys(state.failed), [first] = failed;
    part("trouble").hidden = !first;
    root.classList.toggle("troubled", Boolean(first));
    // Empty while all is well, so that screen readers tell of the next one.
    part("trouble").querySelector("p").textContent = !first ? ""
        : failed.length > 1 ? `${failed.length} videos could not be loaded: ${state.failed[first]}.`
        : `“${state.labels[first]}” could not be loaded: ${state.failed[first]}.`;
}

function retry() {
    for (const name of Object.keys(state.failed)) videos[name].load();
    state.failed = {};
    paintTrouble();
    if (root.dataset.state === "empty") state.isNew = true;
    root.focus({ preventScroll: true });
}

// ---- time

function seekTo(video, seconds) {
    if (!video.seeking && Math.abs(video.currentTime - seconds) < 1e-4) return Promise.resolve();
    return new Promise((done) => {
        for (const event of ["seeked", "error", "emptied"]) video.addEventListener(event, done, { once: true });
        video.currentTime = seconds;
    });
}

// Shows frame n of every video on the screen: the middle of its time, where no rounding reaches a neighbour.
function show(n) {
    target = clamp(n, 0, Math.max(0, state.frames - 1));
    state.frame = target;
    paintTime();
    seeking ??= (async () => {
        let shown;
        do { // a dragged slider asks faster than a video seeks: only the newest wish matters
            shown = target;
            await Promise.all(onScreen().map((video) => seekTo(video, (shown + 0.5) / state.fps)));
        } while (shown !== target);
        seeking = null;
        drawLens();
    })();
    return seeking;
}

function halt() {
    for (const video of Object.values(videos)) {
        video.pause();
        video.playbackRate = 1;
    }
}

async function play() {
    if (!cast().leader) return;
    state.playing = true;
    paintPlaying();
    if (state.frame >= state.frames - 1) await show(0);
    if (seeking) await seeking;
    try {
        if (state.playing) await Promise.all(onScreen().map((video) => video.play()));
    } catch (error) {
        if (error.name === "NotAllowedError") pause(); // the browser wants a click first
    }
}

function pause() {
    state.playing = false;
    halt();
    paintPlaying();
    return show(state.frame);
}

function step(frames) {
    if (state.playing) pause();
    return show(state.frame + frames);
}

async function again() {
    if (!state.playing) return;
    if (!state.loop) return pause();
    halt();
    state.frame = 0;
    await Promise.all(onScreen().map((video) => seekTo(video, 0)));
    if (state.playing) await play();
}

// The one that is ahead slows down until the other has caught up, so a slow machine plays both slowly, but in step.
function keepInStep() {
    const { leader, follower } = cast();
    if (!follower || !state.playing || seeking) return;
    const [lead, follow] = [videos[leader], videos[follower]];
    if (lead.paused || follow.paused || lead.seeking || follow.seeking || lead.ended || follow.ended) return;
    const ahead = lead.currentTime - follow.currentTime;
    if (Math.abs(ahead) > FAR) {
        follow.currentTime = lead.currentTime;
        return;
    }
    const slower = Math.abs(ahead) < 0.003 ? 1 : clamp(1 - 8 * Math.abs(ahead), 0.25, 1);
    lead.playbackRate = ahead > 0 ? slower : 1;
    follow.playbackRate = ahead < 0 ? slower : 1;
}

function onFrame(name, seconds) {
    if (name === cast().leader && state.playing && !seeking) {
        state.frame = clamp(Math.round(seconds * state.fps), 0, state.frames - 1);
        paintTime();
    }
    keepInStep();
    drawLens();
}

function watchFrames(name, video) {
    if (video.requestVideoFrameCallback) {
        const next = (_, frame) => {
            onFrame(name, frame.mediaTime);
            video.requestVideoFrameCallback(next);
        };
        video.requestVideoFrameCallback(next);
    } else {
        video.addEventListener("playing", () => {
            const next = () => {
                if (video.paused || !video.isConnected) return;
                onFrame(name, Math.floor(video.currentTime * state.fps) / state.fps);
                requestAnimationFrame(next);
            };
            next();
        });
    }
    video.addEventListener("loadeddata", join);
    video.addEventListener("error", () => fail(name));
    video.addEventListener("ended", () => { if (name === cast().leader) again(); });
    video.addEventListener("seeked", drawLens);
}

// ---- what is drawn

function paintTime() {
    time.value = state.frame;
    time.style.setProperty("--done", `${state.frames > 1 ? (100 * state.frame) / (state.frames - 1) : 0}%`);
    time.setAttribute("aria-valuetext", `frame ${state.frames ? state.frame + 1 : 0} of ${state.frames}`);
    part("count").textContent = `${state.frames ? state.frame + 1 : 0} / ${state.frames}`;
}

function paintPlaying() {
    root.classList.toggle("playing", state.playing);
    const label = state.playing ? "Pause" : "Play";
    part("play").setAttribute("aria-label", label);
    part("play").title = label;
}

function paintWipe() {
    const percent = Math.round(100 * state.wipe);
    root.style.setProperty("--wipe", `${100 * state.wipe}%`);
    handle.setAttribute("aria-valuenow", percent);
    const { follower } = cast();
    handle.setAttribute("aria-valuetext", follower ? `${percent} % ${state.labels[follower]}` : `${percent} %`);
    const width = screen.clientWidth, [left, right] = [part("left-tag"), part("right-tag")];
    left.classList.toggle("covered", Boolean(follower) && state.wipe * width < left.offsetLeft + left.offsetWidth);
    right.classList.toggle("covered", Boolean(follower) && state.wipe * width > right.offsetLeft);
}

function setWipe(share) {
    state.wipe = clamp(share, 0, 1);
    paintWipe();
}

function drawLens() {
    const { leader, follower } = cast();
    if (!state.lens || !leader) return;
    const lead = videos[leader], dots = devicePixelRatio || 1;
    const across = clamp(0.42 * Math.min(screen.clientWidth, 1.4 * screen.clientHeight), 120, 320);
    const side = 8 * Math.round((across * dots) / 8); // so that halves and all zooms are whole pixels
    if (loupe.width !== side) loupe.width = loupe.height = side;
    const css = side / dots, x = state.at[0] * screen.clientWidth, y = state.at[1] * screen.clientHeight;
    loupe.style.width = loupe.style.height = `${css}px`;
    loupe.style.left = `${x - css / 2 - 2}px`;
    // Above a finger, which would hide it, as far as there is room.
    loupe.style.top = `${state.touch ? Math.max(4, y - css - 36) : y - css / 2 - 2}px`;
    const zoom = ZOOMS[state.zoom], n = side / zoom, pen = loupe.getContext("2d");
    const sx = Math.round(state.at[0] * lead.videoWidth - n / 2), sy = Math.round(state.at[1] * lead.videoHeight - n / 2);
    pen.clearRect(0, 0, side, side);
    const half = (video, from) => {
        const scale = video.videoWidth / lead.videoWidth, tall = video.videoHeight / lead.videoHeight;
        pen.imageSmoothingEnabled = scale !== 1; // the small one is enlarged as on the screen; others stay pixels
        pen.drawImage(video, (sx + from * n) * scale, sy * tall, (n / 2) * scale, n * tall, from * side, 0, side / 2, side);
    };
    half(follower ? videos[follower] : lead, 0);
    half(lead, 0.5);
    if (follower) {
        pen.fillStyle = "#fff";
        pen.fillRect(side / 2 - 1, 0, 2, side);
    }
}

function setLens(on) {
    if (on && !state.lens) {
        // The first zoom that shows more than the screen does already.
        const { leader } = cast();
        const shown = (screen.clientWidth * (devicePixelRatio || 1)) / ((leader && videos[leader].videoWidth) || 1);
        const enough = ZOOMS.findIndex((zoom) => zoom > 1.2 * shown);
        state.zoom = enough < 0 ? ZOOMS.length - 1 : enough;
        state.at[0] = state.wipe;
    }
    state.lens = on;
    root.classList.toggle("lens", on);
    part("lens").setAttribute("aria-pressed", on);
    loupe.hidden = part("zoom").hidden = !on;
    paintZoom();
    drawLens();
}

function paintZoom() {
    part("zoom").textContent = `${ZOOMS[state.zoom]}×`;
    const label = `Lens at ${100 * ZOOMS[state.zoom]} %`;
    part("zoom").setAttribute("aria-label", `${ZOOMS[state.zoom]}×, ${label}`);
    part("zoom").title = label;
}

function nextZoom() {
    if (!state.lens) return;
    state.zoom = (state.zoom + 1) % ZOOMS.length;
    paintZoom();
    drawLens();
}

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
