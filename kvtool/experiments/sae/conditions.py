"""The conditions of the study: what stands at the image's place, and what gives it back."""

from __future__ import annotations

CONDITIONS = {
    "text": "captions alone through the decoder",
    "image": "the run's image tokens",
    "text-prefix": "captions at the image's place in the prompt",
    "shuffled": "the image's tokens in another order, before the decoder",
    "other-image": "the tokens of another image, against this one's captions and masks",
    "random": "Gaussian vectors with the projector's mean and deviation of each channel",
    "random-norm": "random directions with the lengths of the image's tokens",
    "untrained": "vision features through a random linear map, of equal mean length",
    "noise-residual": "Gaussian vectors with mean and covariance of image tokens at the layer",
    "pca": "image tokens, projected on the text's first components, as many as the SAE's L0",
    "random-sae": "image tokens through the SAE turned by a random rotation",
}
"""Name -> what it is, in the order of the rows."""
DEFAULT = tuple(CONDITIONS)
ALWAYS = ("text", "image")
"""What all others are compared with."""
