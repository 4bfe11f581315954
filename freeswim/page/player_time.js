// The player's time: seeking, playing, and keeping two videos in step. Goes on from player.js.

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
