// The body of a function that gradio calls once per component with (element, trigger, props, server, upload, watch).
// The list lives in localStorage; what is shown is made anew from it after every change.

const root = element.querySelector(".runs");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const list = part("list"), clear = part("clear");
const KEY = props.storage_key || "freeswim.runs";
const VIDEOS = ["right", "left", "base"]; // the first that a run has stands for all

let runs = read();
let kept = true; // whether the browser stores them
let taken = null; // the run that came last: the same value may be handed over twice
const gone = new Set(); // runs whose videos no longer answer

// ---- storage

function read() {
    try {
        const stored = JSON.parse(localStorage.getItem(KEY) || "[]");
        return Array.isArray(stored) ? stored.filter((run) => run && run.run && run.settings && run.comparison) : [];
    } catch {
        return []; // no storage allowed here, or something else under this name
    }
}

// Stores the list, or as much of it as the browser takes.
function write() {
    runs = runs.slice(0, props.limit || 24);
    for (;;) {
        try {
            localStorage.setItem(KEY, JSON.stringify(runs));
            kept = true;
            return;
        } catch (error) {
            if (error.name !== "QuotaExceededError" || runs.length < 2) {
                kept = false; // they last as long as the page does
                return;
            }
            runs.pop(); // full: the oldest goes
        }
    }
}

// ---- changes

function add(entry) {
    taken = entry.run;
    runs = [{ ...entry, made: Date.now() }, ...read_again().filter((run) => run.run !== entry.run)];
    gone.delete(entry.run);
    write();
    paint();
}

// Another tab may have changed the list meanwhile.
const read_again = () => (kept ? read() : runs);

function remove(run) {
    const place = runs.findIndex((other) => other.run === run.run);
    runs = read_again().filter((other) => other.run !== run.run);
    write();
    paint();
    say("Deleted from this list");
    const next = list.children[Math.min(place, list.children.length - 1)];
    (next ? next.querySelector(".open") : part("title")).focus();
}

let sure = null; // the timer of an asked question

function clearAll() {
    if (!sure) {
        clear.textContent = runs.length === 1 ? "Delete it from the list?" : `Delete all ${runs.length}?`;
        clear.classList.add("sure");
        sure = setTimeout(unsure, 5000);
        return;
    }
    unsure();
    runs = [];
    write();
    paint();
    say("The list is empty");
    part("title").focus();
}

function unsure() {
    clearTimeout(sure);
    sure = null;
    clear.classList.remove("sure");
    clear.textContent = "Clear all";
}

async function open(run) {
    await look(run);
    const { made, ...entry } = run;
    const there = !gone.has(run.run);
    if (there) props.value = { entry: null, chosen: entry };
    trigger("select", { settings: run.settings, run: run.run, look: run.look || "", gone: !there });
    if (there) trigger("input");
    for (const card of list.children) card.classList.toggle("opened", card.dataset.run === run.run);
    say(there ? "Shown, and its settings are in the form" : "Its videos are gone; its settings are in the form");
}

// Asks whether the run's videos are still there. An answer other than "no" (the server is away) says nothing.
async function look(run) {
    const file = VIDEOS.map((name) => run.comparison[name]).find(Boolean);
    try {
        const answer = await fetch(file.url, { method: "HEAD", cache: "no-store" });
        const was = gone.has(run.run);
        if (answer.ok) gone.delete(run.run);
        else gone.add(run.run);
        if (was !== gone.has(run.run)) paint();
    } catch {
        if (!file) gone.add(run.run);
    }
}

// ---- what is shown

function make(tag, className, text) {
    const made = document.createElement(tag);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
}

function when(made) {
    const date = new Date(made || 0), today = new Date().toDateString() === date.toDateString();
    return date.toLocaleString(undefined, today ? { timeStyle: "short" } : { dateStyle: "medium" });
}

function card(run) {
    const { prompt, width, height, seed } = run.settings;
    const item = make("li", gone.has(run.run) ? "gone" : "");
    item.dataset.run = run.run;
    item.classList.toggle("opened", Boolean(props.value && props.value.chosen && props.value.chosen.run === run.run));
    const button = make("button", "open");
    button.type = "button";
    const picture = make("span", "picture");
    picture.style.aspectRatio = `${Number(width) || 16} / ${Number(height) || 9}`;
    if (String(run.poster).startsWith("data:image/")) {
        const image = make("img", "");
        image.alt = "";
        image.src = run.poster;
        picture.append(image);
    }
    if (gone.has(run.run)) picture.append(make("span", "note", "No longer on the server"));
    const facts = make("span", "facts", `${width} × ${height} · seed ${seed}`);
    button.append(picture, make("span", "prompt", prompt), facts, make("time", "facts", when(run.made)));
    button.title = prompt;
    button.addEventListener("click", () => open(run));
    const cross = make("button", "delete");
    cross.type = "button";
    cross.title = "Delete from this list";
    cross.setAttribute("aria-label", `Delete from this list: ${prompt}, seed ${seed}`);
    cross.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 7l10 10M17 7L7 17"/></svg>';
    cross.addEventListener("click", () => remove(run));
    item.append(button, cross);
    item.addEventListener("keydown", (event) => {
        if (event.key !== "Delete") return;
        event.preventDefault();
        remove(run);
    });
    return item;
}

function paint() {
    root.setAttribute("aria-label", props.label || "Recent runs");
    part("title").textContent = props.label || "Recent runs";
    part("none").textContent = kept ? props.placeholder : `${props.placeholder} It does not let the page keep them.`;
    part("none").hidden = runs.length > 0 && kept;
    clear.hidden = !runs.length;
    list.replaceChildren(...runs.map(card));
}

function say(text) {
    part("said").textContent = text;
}

// ---- events

// A run that is sent again is a growing one, and keeps its place; one that was deleted meanwhile stays deleted.
function take() {
    const entry = props.value && props.value.entry;
    if (!entry) return;
    if (entry.run !== taken) return add(entry);
    const known = runs.find((run) => run.run === entry.run);
    if (!known) return;
    Object.assign(known, entry);
    write();
    paint();
}

clear.addEventListener("click", clearAll);
clear.addEventListener("blur", unsure);
function otherTab(event) {
    if (!element.isConnected) return removeEventListener("storage", otherTab);
    if (event.key !== KEY && event.key !== null) return;
    runs = read();
    paint();
}
addEventListener("storage", otherTab);
watch(["value", "label", "placeholder"], take);
take();
paint();
runs.forEach(look);
