"""The Gradio page: `build_page` draws it, `handlers` holds what its events do as plain functions."""
