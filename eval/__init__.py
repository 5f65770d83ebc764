"""Policy × manifests -> numbers and pictures.

choices      strict, soft and per-option scores, their intervals (pure)
generation   completions of a policy for samples
serving      the same from a server, as vLLM is one
predictions  completions on disk, ours and published ones
ranking      CMC, mAP, mINP by counting; the protocols of the data sets (pure)
kreciprocal  re-ranking by neighbours without the matrix of all distances (pure)
rerank       fuse a verifier's P(same) into a ranking (pure)
verifier     the policy as that verifier
images       queries and gallery of an embeddings table

Commands: `eval.qa`, `eval.reid`, `eval.report` (one HTML page), `eval.card`.
"""
