"""All writers of SAE files, with what should be read from their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.sae import dictionaries, saelens, scopes
from tests.support.sae.weights import Written

WRITERS: tuple[tuple[Callable[[Path], Written], str, int | None, str], ...] = (
    (scopes.gemma_scope, "gemma-scope", 3, "resid_post"),
    (scopes.gemma_scope_embedding, "gemma-scope", None, "embedding"),
    (scopes.gemma_scope_2, "gemma-scope-2", 9, "resid_post"),
    (saelens.saelens_standard, "saelens", 4, "resid_pre"),
    (saelens.saelens_old, "saelens", 4, "resid_pre"),
    (saelens.saelens_old_topk, "saelens", 4, "resid_pre"),
    (saelens.saelens_jumprelu, "saelens", 4, "resid_pre"),
    (saelens.saelens_topk, "saelens", 4, "resid_pre"),
    (saelens.saelens_topk_rescaled, "saelens", 4, "resid_pre"),
    (saelens.saelens_batchtopk, "saelens", 4, "resid_pre"),
    (saelens.saelens_gated, "saelens", 4, "resid_pre"),
    (saelens.saelens_layer_norm, "saelens", 4, "resid_pre"),
    (saelens.saelens_constant_norm, "saelens", 4, "resid_pre"),
    (saelens.saelens_scaled, "saelens", 4, "resid_pre"),
    (scopes.sparsify, "sparsify", 2, "resid_post"),
    (scopes.sparsify_groupmax, "sparsify", 2, "resid_post"),
    (scopes.sparsify_skip, "sparsify", 2, "resid_post"),
    (dictionaries.dictionary_standard, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_new, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_topk, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_batchtopk, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_batchtopk_unset, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_matryoshka, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_jumprelu, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_gated, "dictionary-learning", 5, "resid_post"),
    (dictionaries.dictionary_checkpoint, "dictionary-learning", 5, "resid_post"),
    (scopes.saev_relu, "saev", None, "resid_post"),
    (scopes.saev_topk, "saev", None, "resid_post"),
    (scopes.saev_batchtopk, "saev", None, "resid_post"),
    (scopes.llama_scope, "llama-scope", 7, "resid_post"),
    (scopes.llama_scope_later, "llama-scope", 8, "resid_post"),
    (scopes.llama_scope_topk, "llama-scope", 8, "resid_post"),
    (scopes.llama_scope_token_wise, "llama-scope", 8, "resid_post"),
    (scopes.llama_scope_folded, "llama-scope", 8, "resid_post"),
    (scopes.qwen_scope, "qwen-scope", 6, "resid_post"),
    (scopes.state_dict, "state-dict", 19, "resid_post"),
)
"""Each writer, with the format, layer and hook that kvtool should read from its files."""
