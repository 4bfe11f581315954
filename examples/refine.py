"""A video of your own, remade larger by a running page: python examples/refine.py clip.mp4 "what it shows"

A third argument is the page's address. Ctrl-C cancels the run on the server too.
"""

import sys
import time

from gradio_client import Client, handle_file


def main() -> None:
    """Refines one video and prints where FreeSwim's, the naive and the enlarged original are."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    video, prompt = sys.argv[1:3]
    client = Client(sys.argv[3] if len(sys.argv) > 3 else "http://127.0.0.1:7860", verbose=False)
    job = client.submit(video=handle_file(video), prompt=prompt, quality="draft", seed=1, api_name="/refine")
    try:
        while not job.done():
            if outputs := job.outputs():
                status = outputs[-1][3]["status"]
                place = f"number {status['place']} in line" if status["state"] == "waiting" else status["stage"]
                print(f"{place} {status['step']}/{status['total']}")
            time.sleep(2)
    except KeyboardInterrupt:
        job.cancel()
        raise SystemExit("cancelled") from None
    freeswim, naive, enlarged, details = job.result()
    print(f"FreeSwim {freeswim}\nnaive    {naive}\nenlarged {enlarged}")
    print(details["seconds"])


if __name__ == "__main__":
    main()
