"""Policy × manifests -> numbers and pictures.

Commands: `eval.qa`, `eval.reid`, `eval.report` (one HTML page), `eval.card`. `choices`, `ranking`,
`kreciprocal` and `rerank` only compute: they read and write no files and load no policy.
"""
