"""What each size would take on a running page's device: python examples/estimate.py http://127.0.0.1:7860

Nothing is generated: it asks the page before anything long is started.
"""

import sys

from gradio_client import Client

PROMPT = "a red sun rising over blue mountains and a calm sea"


def main() -> None:
    """Prints seconds and memory of a few sizes, and why a size would be refused."""
    client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
    for size in ("512x288", "768x432", "1024x576", "8192x4608"):
        cost = client.predict(prompt=PROMPT, resolution=size, quality="balanced", api_name="/estimate")
        print(f"{size:>10}  {cost['seconds']:8.0f} s  {cost['memory'] / 2**30:7.1f} GB  {cost['refused'] or ''}")


if __name__ == "__main__":
    main()
