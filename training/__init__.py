"""How the embedded model was made: scenes, their renderer, the VAE and the transformer. See README.md."""
