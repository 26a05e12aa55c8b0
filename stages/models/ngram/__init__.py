"""The count-based experts of `gpt`, and the n-gram counts that they share with `kneser_ney`.

Read `counts` (n-grams as a sorted trie), `smoothing` (counts to probabilities), `backoff_table` (probabilities as
tensors), `window_matches` and `cache_lm` (n-grams of the window), `word_line_contexts` and `context_index` (words and
lines), and `expert_scores` (how well each expert has predicted so far), in this order.

The same distributions are computed for different inputs; keep them equal:

    input                                    n-gram experts      word and line experts
    windows                                  ngram_experts       context_index
    windows of the training text             cross_fitting       context_index, with train_positions
    texts that grow by one token             torch_experts       context_index.last_log_probs
    one such text, on the CPU                numpy_experts       numpy_experts
    a known text, counted while it is read   adaptive_experts    adaptive_experts
"""
