"""The rows of a study: one for each layer, condition and SAE."""

from __future__ import annotations

FIELDS = (
    *("layer", "condition", "sae", "n_images", "n_tokens", "n_outliers"),
    *("mse", "mse_token", "fvu", "fvu_low", "fvu_high", "fvu_text", "nmse", "cos", "bias"),
    *("l0", "l0_fraction", "above", "alive", "density_50", "density_90", "density_99"),
    *("norm", "norm_ratio", "overlap", "overlap_chance"),
    *("fvu_ratio", "fvu_ratio_low", "fvu_ratio_high"),
    *("fvu_difference", "fvu_difference_low", "fvu_difference_high"),
    *("l0_difference", "l0_difference_low", "l0_difference_high"),
    *("cos_difference", "cos_difference_low", "cos_difference_high"),
    *("transfer", "transfer_low", "transfer_high", "transfer_chance", "transfer_text", "iou"),
    *("n_concepts", "directions", "directions_low", "directions_high"),
    *("recall_1", "recall_5", "recall_10", "median_rank", "mrr"),
    *("recall_1_chance", "recall_5_chance", "recall_10_chance"),
    *("n_features", "match", "match_low", "match_high", "match_chance", "lift"),
    *("described", "described_chance", "delta_loss", "recovered"),
)
"""In their order; null where one does not apply. Differences are text less the condition, paired by
image; `fvu_ratio` is the condition's fvu over the text's."""
