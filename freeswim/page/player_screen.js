// What the player draws: time, wipe and lens. Goes on from player_time.js.

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
