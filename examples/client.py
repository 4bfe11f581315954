"""The running page from a script: python examples/client.py http://127.0.0.1:7860

Shows progress while it waits; Ctrl-C cancels the run on the server too.
"""

import sys
import time

from gradio_client import Client


def main() -> None:
    """Asks for one comparison and prints where the three videos are."""
    client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
    job = client.submit(
        prompt="a red sun rising over blue mountains and a calm sea",
        resolution="512x288",
        seed=1,
        api_name="/generate",
    )
    try:
        while not job.done():
            if outputs := job.outputs():
                status = outputs[-1][3]["status"]
                print(f"{status['stage']} {status['step']}/{status['total']}")
            time.sleep(2)
    except KeyboardInterrupt:
        job.cancel()
        raise SystemExit("cancelled") from None
    freeswim, naive, native, details = job.result()
    print(f"FreeSwim {freeswim}\nnaive    {naive}\nnative   {native}")
    print(details["seconds"])


if __name__ == "__main__":
    main()
