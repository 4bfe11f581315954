// The body of a function that gradio calls once per component with (element, trigger, props, server, upload, watch).
// It goes on in player_time.js, player_screen.js and player_input.js; player.py joins the four into one body.
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
const REASONS = { 2: "the connection broke", 3: "it is damaged", 4: "it is gone from the server, or can't be played here" };

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
